#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "digest.h"
#include "pool.h"
#include "stream_parts.h"

enum { STACK = 128 << 10, TRIES = 3, MS = 1000000, PATIENCE_MS = 60000 };

static void nap(int64_t ns) { nanosleep(&(struct timespec){.tv_nsec = ns}, NULL); }

int32_t ring_read(edgert_stream *s, int64_t offset, uint8_t *to, int64_t n, int64_t least) {
  int64_t done = 0, start = edgert_now_ns();
  for (int tries = 0; done < least;) {
    int64_t got = s->source->read(s->source, s->plan.start + offset + done, to + done, n - done);
    if (got == -EINTR || got == -EAGAIN) {
      int late = edgert_now_ns() - start > s->plan.timeout_ms * MS;
      if (!late && !atomic_load(&s->stop)) {
        nap(got == -EAGAIN ? MS : 0);
        continue;
      }
      got = -ETIMEDOUT;
    }
    int64_t before = done;
    if (got > 0) done = done + got >= least ? done + got : (done + got) / PAGE * PAGE; /* ask again from a page's start */
    if (got < 0 || (done == before && ++tries == TRIES)) {
      stream_fail(s, "weights at byte %lld of the file: %s", (long long)(s->plan.start + offset + done),
                  got < 0 ? strerror((int)-got) : "the file ends there");
      return 1;
    }
    if (done > before) tries = 0;
  }
  return 0;
}

int32_t ring_check(edgert_stream *s, int64_t segment, const uint8_t *bytes) {
  const edgert_segment *about = &s->layout.segments[segment];
  uint64_t mark = edgert_mix(bytes, about->size);
  if (atomic_load(&s->known[segment])) {
    if (mark == s->marks[segment]) return 0;
  } else {
    uint8_t digest[32];
    edgert_sha256(bytes, about->size, digest);
    if (!memcmp(digest, about->sha256, sizeof digest)) {
      s->marks[segment] = mark;
      lookup_learn(s, segment, bytes);
      atomic_store(&s->known[segment], 1);
      return 0;
    }
  }
  stream_fail(s, "segment %lld of the weights, at byte %lld of the file, is damaged", (long long)segment,
              (long long)(s->plan.start + about->offset));
  return 1;
}

/* Finds room for job `next`; 0 when there is none yet. `joined`: only right behind the job before. */
static int claim(edgert_stream *s, int joined) {
  int64_t size = pages(s->layout.segments[s->sequence[s->next % s->job_count]].size), room = s->plan.ring_bytes;
  int64_t pos = s->head, left = room - pos % room;
  if (joined && left == room) return 0; /* the job before ends where the ring does */
  if (left < size) {
    if (joined) return 0;
    pos += left; /* a segment does not go over the ring's end */
  }
  if (pos + size - s->tail > room || s->next - s->released >= s->slots) return 0;
  s->jobs[s->next % s->slots] = (ring_job){pos % room, pos + size, s->sequence[s->next % s->job_count], CLAIMED};
  s->head = pos + size;
  s->next++;
  return 1;
}

/* Claims a job and its neighbours in the file up to a block. Gives how many; 0 when there is no room. */
static int64_t claim_block(edgert_stream *s) {
  if (!claim(s, 0)) return 0;
  int64_t first = s->next - 1, size = 0;
  for (;;) {
    const edgert_segment *last = &s->layout.segments[s->jobs[(s->next - 1) % s->slots].segment];
    const edgert_segment *then = &s->layout.segments[s->sequence[s->next % s->job_count]];
    size += last->size;
    if (last->offset + last->size != then->offset || size + then->size > s->plan.block_bytes || !claim(s, 1)) break;
  }
  return s->next - first;
}

/* Under the lock, which it gives up meanwhile: reads the next block, where there is room for it. 0 when there is none. */
static int32_t read_next(edgert_stream *s) {
  int64_t first = s->next, count = s->paused || s->failed || !s->job_count ? 0 : claim_block(s);
  if (!count) return 0;
  s->busy++;
  predict_reading(s, 1, 0);
  pthread_cond_signal(&s->space); /* there may be room for one more */
  ring_job job = s->jobs[first % s->slots], last = s->jobs[(first + count - 1) % s->slots];
  pthread_mutex_unlock(&s->lock);
  const edgert_segment *begin = &s->layout.segments[job.segment], *end = &s->layout.segments[last.segment];
  int64_t least = end->offset + end->size - begin->offset, n = pages(least);
  int32_t wrong = ring_read(s, begin->offset, s->ring + job.at, n, least);
  pthread_mutex_lock(&s->lock);
  for (int64_t i = 0; i < count && !wrong; i++) s->jobs[(first + i) % s->slots].state = THERE;
  s->figures.read_bytes += n;
  s->figures.reads++;
  s->progress_ns = edgert_now_ns();
  predict_reading(s, -1, n);
  s->busy--;
  pthread_cond_broadcast(&s->ready);
  return 1;
}

/* Under the lock, which it gives up meanwhile: checks a job whose bytes are there. */
static void check(edgert_stream *s, ring_job *job) {
  s->busy++;
  job->state = CHECKING;
  pthread_mutex_unlock(&s->lock);
  int32_t wrong = ring_check(s, job->segment, s->ring + job->at);
  pthread_mutex_lock(&s->lock);
  if (!wrong) job->state = READY;
  s->busy--;
  pthread_cond_broadcast(&s->ready);
}

/* Checks the first job that waits for it, as `check`. 0 when there is none. */
static int32_t check_next(edgert_stream *s) {
  if (s->paused || s->failed) return 0;
  if (s->unchecked < s->released) s->unchecked = s->released;
  for (int64_t n = s->unchecked; n < s->next; n++) {
    ring_job *job = &s->jobs[n % s->slots];
    if (job->state == THERE) return check(s, job), 1;
    if (n == s->unchecked && job->state != CLAIMED) s->unchecked++;
  }
  return 0;
}

/* Reading comes first: where the device is what a run waits for, who runs it has time to check what it needs next. */
static void *reader(void *argument) {
  edgert_stream *s = argument;
  prctl(PR_SET_NAME, "edgert-read", 0, 0, 0);
  pthread_mutex_lock(&s->lock);
  while (!atomic_load(&s->stop))
    if (!chosen_fetch(s) && !read_next(s) && !check_next(s)) pthread_cond_wait(&s->space, &s->lock);
  pthread_mutex_unlock(&s->lock);
  return NULL;
}

int32_t ring_start(edgert_stream *s) {
  pthread_attr_t attr;
  sigset_t all, before;
  int64_t wanted = s->job_count || s->chosen_tables || s->expert_tables ? s->plan.threads : 0;
  for (int64_t i = 0; i < s->layout.lookup_count; i++)
    if (s->layout.lookups[i].ends) wanted = s->plan.threads; /* of so many rows at once that readers pay */
  if (!wanted) return ring_stop(s); /* those that read what stays */
  sigfillset(&all);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals stay with the program's own threads */
  while (s->reader_count < wanted && !pthread_create(&s->readers[s->reader_count], &attr, reader, s)) s->reader_count++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return !s->reader_count;
}

/* Waits under the lock for a change, a moment at most: the wall's clock may be set. */
static void wait_ready(edgert_stream *s, int64_t ns) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  int64_t at = until.tv_nsec + (ns < 100 * MS ? ns : 100 * MS);
  until.tv_sec += at / 1000000000;
  until.tv_nsec = at % 1000000000;
  pthread_cond_timedwait(&s->ready, &s->lock, &until);
}

/* Waits under the lock until nobody reads or checks. 0 when so, 1 when a read does not end in so many milliseconds. */
static int32_t idle(edgert_stream *s, int64_t most) {
  int64_t end = edgert_now_ns() + most * MS;
  while (s->busy && edgert_now_ns() < end) wait_ready(s, 100 * MS);
  return s->busy != 0;
}

void ring_reset(edgert_stream *s, int32_t again) {
  pthread_mutex_lock(&s->lock);
  s->paused = 1;
  if (idle(s, s->plan.timeout_ms)) { /* nothing can be done with the ring while somebody may write to it: the run fails again */
    s->failed = 1;
    pthread_mutex_unlock(&s->lock);
    return;
  }
  s->range_count = s->range_next = s->range_done = 0;
  s->head = s->tail = s->next = s->released = s->unchecked = s->run_job = s->cursor = 0;
  if (again) {
    s->failed = s->paused = 0;
    s->message[0] = 0;
    s->progress_ns = edgert_now_ns();
    pthread_cond_broadcast(&s->space);
  }
  pthread_mutex_unlock(&s->lock);
}

int32_t ring_stop(edgert_stream *s) {
  pthread_mutex_lock(&s->lock);
  atomic_store(&s->stop, 1);
  pthread_cond_broadcast(&s->space);
  int32_t stuck = idle(s, PATIENCE_MS);
  pthread_mutex_unlock(&s->lock);
  if (stuck) return 1;
  while (s->reader_count) pthread_join(s->readers[--s->reader_count], NULL);
  atomic_store(&s->stop, 0);
  return 0;
}

int32_t ring_await(edgert_stream *s, int64_t start) {
  int64_t last = start > s->progress_ns ? start : s->progress_ns; /* nothing was asked of the device between the runs */
  int64_t left = s->plan.timeout_ms * MS - (edgert_now_ns() - last);
  if (left > 0) wait_ready(s, left);
  return left <= 0;
}

const uint8_t *ring_wait(edgert_stream *s, int64_t n) {
  ring_job *job = &s->jobs[n % s->slots];
  pthread_mutex_lock(&s->lock);
  int64_t start = 0;
  while (!s->failed && !(n < s->next && job->state == READY)) {
    if (n < s->next && job->state == THERE) {
      int64_t begun = edgert_now_ns();
      check(s, job);
      s->checked_ns += edgert_now_ns() - begun;
      continue;
    }
    if (!start) start = edgert_now_ns();
    if (!ring_await(s, start)) continue;
    const edgert_segment *about = &s->layout.segments[s->sequence[n % s->job_count]];
    pthread_mutex_unlock(&s->lock);
    stream_fail(s, "segment %d of the weights, at byte %lld of the file, did not come within %.1f s",
                s->sequence[n % s->job_count], (long long)(s->plan.start + about->offset), s->plan.timeout_ms / 1e3);
    return NULL;
  }
  if (start) s->figures.wait_ns += edgert_now_ns() - start;
  const uint8_t *at = s->failed ? NULL : s->ring + job->at;
  pthread_mutex_unlock(&s->lock);
  return at;
}

int32_t ring_skip(edgert_stream *s, int64_t n) {
  pthread_mutex_lock(&s->lock);
  int64_t claimed = s->next < n ? s->next : n; /* those that a reader has begun are waited for */
  for (; s->next < n; s->next++) s->jobs[s->next % s->slots] = (ring_job){0, s->head, 0, READY};
  pthread_mutex_unlock(&s->lock);
  for (; s->run_job < claimed; s->run_job++)
    if (!ring_wait(s, s->run_job)) return 1;
  s->run_job = n;
  ring_release_to(s, n);
  return 0;
}

void ring_release_to(edgert_stream *s, int64_t n) {
  pthread_mutex_lock(&s->lock);
  if (n > s->released) {
    s->tail = s->jobs[(n - 1) % s->slots].end;
    s->released = n;
    pthread_cond_signal(&s->space);
  }
  pthread_mutex_unlock(&s->lock);
}
