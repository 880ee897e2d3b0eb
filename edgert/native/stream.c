#define _GNU_SOURCE
#include "stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pool.h"
#include "stream_parts.h"

/* Large pages from the first byte on, where they can be had: fewer to find for the processor, and devices, which take
 * so many pieces of memory at once, read twice as fast. */
uint8_t *stream_memory(int64_t bytes) {
  size_t whole = (size_t)(bytes > 0 ? pages(bytes) : PAGE), more = whole >= HUGE ? HUGE : 0;
  uint8_t *at = mmap(NULL, whole + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return NULL;
  size_t before = more ? -(uintptr_t)at % HUGE : 0;
  if (before) munmap(at, before);
  if (more > before) munmap(at + before + whole, more - before);
  madvise(at + before, whole, MADV_HUGEPAGE);
  /* Readers that come to a large page at once would each be given one and keep the first, beyond the budget for a moment. */
  for (size_t i = before; more && i < before + whole; i += HUGE) *(volatile uint8_t *)(at + i) = 0;
  return at + before;
}

void stream_release(void *at, int64_t bytes) {
  if (at) munmap(at, (size_t)(bytes > 0 ? bytes : 1));
}

void stream_fail(edgert_stream *s, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  pthread_mutex_lock(&s->lock);
  if (!s->failed) vsnprintf(s->message, sizeof s->message, format, arguments);
  s->failed = 1;
  pthread_cond_broadcast(&s->ready);
  pthread_mutex_unlock(&s->lock);
  va_end(arguments);
}

/* Reads the segments in `sequence` into memory that serves as the ring; kept there, where all have room, or only checked. */
static int32_t bring(edgert_stream *s, uint8_t *to, int64_t bytes, int32_t keep) {
  if (!s->job_count) return 0;
  int64_t ring = s->plan.ring_bytes, waited = s->figures.wait_ns;
  s->slots = s->job_count;
  s->jobs = calloc((size_t)s->slots, sizeof *s->jobs);
  if (!s->jobs) return stream_fail(s, "no memory for streaming"), 1;
  s->ring = to;
  s->plan.ring_bytes = bytes;
  ring_reset(s, 1);
  int32_t wrong = ring_start(s) ? (stream_fail(s, "no thread to read weights with"), 1) : 0;
  for (int64_t n = 0; n < s->job_count && !wrong; n++) {
    const uint8_t *at = ring_wait(s, n);
    wrong = !at;
    if (keep) s->where[s->sequence[n]] = (uint8_t *)at;
    else if (at) ring_release_to(s, n + 1);
  }
  ring_reset(s, 0);
  s->figures.wait_ns = waited;
  s->ring = NULL;
  s->plan.ring_bytes = ring;
  if (wrong) return 1; /* a reader that does not come back may yet look at the jobs */
  free(s->jobs);
  s->jobs = NULL;
  return 0;
}

/* Of tables that results are looked up in, what neither stays nor is visited: checked now, as any of it may be wanted. */
static int32_t learn(edgert_stream *s, const uint8_t *stays) {
  const edgert_layout *l = &s->layout;
  s->job_count = 0;
  for (int64_t i = 0; i < l->segment_count; i++) {
    int32_t wanted = 0;
    for (int64_t t = 0; t < l->lookup_count; t++) {
      const edgert_lookup *table = &l->lookups[t];
      wanted |= table->ends && l->segments[i].offset < table->offset + table->size &&
                l->segments[i].offset + l->segments[i].size > table->offset;
    }
    for (int64_t p = 0; p < l->piece_count && wanted; p++) wanted = l->pieces[p].segment != i;
    if (wanted && !stays[i] && !atomic_load(&s->known[i])) s->sequence[s->job_count++] = (int32_t)i;
  }
  return s->kept_bytes >= s->scratch_bytes ? bring(s, s->kept, s->kept_bytes, 0) : bring(s, s->scratch, s->scratch_bytes, 0);
}

/* Reads what stays. */
static int32_t load(edgert_stream *s, const uint8_t *stays) {
  s->job_count = 0;
  for (int64_t i = 0; i < s->layout.segment_count; i++) {
    s->where[i] = NULL;
    if (stays[i]) s->sequence[s->job_count++] = (int32_t)i;
  }
  return bring(s, s->kept, s->kept_bytes, 1);
}

/* The visits with what stays joined to one where it lies in one piece, and the segments that come through the ring. */
static void arrange(edgert_stream *s) {
  const edgert_layout *l = &s->layout;
  s->visit_count = s->job_count = 0;
  for (int64_t v = 0; v < l->visit_count; v++) {
    const edgert_visit *from = &l->visits[v];
    stream_visit made = {from->step, from->begin, from->end, from->units, from->first, from->count, 0, 0, 0};
    for (int64_t p = from->first; p < from->first + from->count; p++)
      if (!s->where[l->pieces[p].segment]) {
        s->sequence[s->job_count++] = (int32_t)l->pieces[p].segment;
        made.jobs++;
      }
    stream_visit *last = s->visit_count ? &s->visits[s->visit_count - 1] : NULL;
    int joins = last && last->step == made.step && last->end == made.begin && !last->jobs && !made.jobs &&
                last->count == made.count;
    for (int64_t p = 0; joins && p < made.count; p++) {
      const edgert_piece *a = &l->pieces[last->first + p], *b = &l->pieces[made.first + p];
      joins = a->weight == b->weight &&
              s->where[b->segment] - s->where[a->segment] == l->segments[b->segment].offset - l->segments[a->segment].offset;
    }
    if (joins) last->end = made.end;
    else s->visits[s->visit_count++] = made;
  }
}

/* Gives back what stays and the ring. */
static void drop(edgert_stream *s) {
  stream_release(s->kept, s->kept_bytes);
  stream_release(s->ring, s->plan.ring_bytes);
  free(s->jobs);
  chosen_drop(s);
  experts_drop(s);
  s->kept = s->ring = NULL;
  s->jobs = NULL;
}

/* Makes memory for the plan, reads what stays, starts the readers. 0 when right. */
static int32_t fill(edgert_stream *s) {
  uint8_t *stays = malloc((size_t)s->layout.segment_count + 1);
  if (!stays) return stream_fail(s, "no memory for streaming"), 1;
  int64_t rest = 0;
  s->kept_bytes = stays_choose(s, stays, &rest);
  s->kept = stream_memory(s->kept_bytes);
  int32_t wrong = !s->kept;
  if (wrong) stream_fail(s, "no memory for %lld bytes of weights", (long long)s->kept_bytes);
  wrong = wrong || learn(s, stays) || load(s, stays);
  free(stays);
  if (wrong) return 1;
  arrange(s);
  int64_t need = 0;
  for (int64_t v = 0; v < s->layout.visit_count; v++) {
    int64_t size = 0, most = 0;
    const edgert_visit *visit = &s->layout.visits[v];
    for (int64_t p = visit->first; p < visit->first + visit->count; p++) {
      int64_t segment = s->layout.pieces[p].segment, bytes = pages(s->layout.segments[segment].size);
      if (s->where[segment]) continue;
      size += bytes;
      most = bytes > most ? bytes : most;
    }
    need = size + most > need ? size + most : need; /* one of them may have to start over at the ring's begin */
  }
  if (!s->job_count) s->plan.ring_bytes = 0;
  else if (s->plan.ring_bytes < need)
    return stream_fail(s, "a ring of %lld bytes is needed, it has %lld", (long long)need, (long long)s->plan.ring_bytes), 1;
  s->slots = s->plan.ring_bytes / PAGE + s->job_count + 2; /* as many as fit, and a run's that are skipped */
  s->jobs = calloc((size_t)s->slots, sizeof *s->jobs);
  s->ring = stream_memory(s->plan.ring_bytes);
  if (!s->jobs || !s->ring) return stream_fail(s, "no memory for a ring of %lld bytes", (long long)s->plan.ring_bytes), 1;
  s->figures.pinned_bytes = s->kept_bytes;
  s->figures.ring_bytes = s->plan.ring_bytes;
  int64_t shared = s->chosen_tables ? rest * s->chosen_tables / (s->chosen_tables + s->expert_tables) : 0;
  if (chosen_fill(s, shared) || experts_fill(s, rest - shared)) return 1;
  ring_reset(s, 1);
  if (ring_start(s)) return stream_fail(s, "no thread to read weights with"), 1;
  return 0;
}

edgert_stream *edgert_stream_open(const edgert_layout *layout, const edgert_streaming *plan, edgert_source *source,
                                  char *message, int64_t message_bytes) {
  edgert_stream *s = calloc(1, sizeof *s);
  if (!s) {
    snprintf(message, (size_t)message_bytes, "no memory for streaming");
    if (source) source->close(source);
    return NULL;
  }
  s->layout = *layout;
  s->plan = *plan;
  s->source = source;
  s->plan.threads = plan->threads < 1 ? 1 : plan->threads > MOST_READERS ? MOST_READERS : plan->threads;
  s->plan.ring_bytes = plan->ring_bytes / PAGE * PAGE;
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->ready, NULL);
  pthread_cond_init(&s->space, NULL);
  size_t segments = (size_t)layout->segment_count + 1;
  s->where = calloc(segments, sizeof *s->where);
  s->marks = calloc(segments, sizeof *s->marks);
  s->known = calloc(segments, 1);
  s->bases = calloc((size_t)layout->weights + 1, sizeof *s->bases);
  s->visits = calloc((size_t)layout->visit_count + 1, sizeof *s->visits);
  size_t pieces = (size_t)layout->piece_count + 1;
  s->sequence = calloc(pieces > segments ? pieces : segments, sizeof *s->sequence);
  int32_t wrong = !s->where || !s->marks || !s->known || !s->bases || !s->visits || !s->sequence;
  if (wrong) stream_fail(s, "no memory for streaming");
  if (wrong || lookup_open(s) || chosen_open(s) || experts_open(s) || fill(s)) {
    snprintf(message, (size_t)message_bytes, "%s", s->message);
    edgert_stream_close(s);
    return NULL;
  }
  return s;
}

void edgert_stream_begin(edgert_stream *s, edgert_ctx *ctx) {
  if (s->cursor || s->failed) { /* the run before ended in its middle */
    ring_reset(s, 1);
    experts_forget(s);
  }
  ctx->bases = s->bases;
  ctx->weights = s->kept;
  predict_begin(s);
}

int32_t edgert_stream_step(edgert_stream *s, edgert_ctx *ctx, int64_t step, edgert_range run, void *with, int64_t n) {
  const edgert_layout *l = &s->layout;
  for (int64_t i = 0; i < l->lookup_count; i++)
    if (l->lookups[i].step == step)
      return experts_are(&l->lookups[i]) ? experts_step(s, ctx, i, run, with, n)
             : l->lookups[i].chosen      ? chosen_step(s, ctx, i, run, with, n) : lookup_step(s, ctx, &l->lookups[i], run, with, n);
  if (s->cursor == s->visit_count || s->visits[s->cursor].step != step)
    return stream_fail(s, "step %lld comes out of turn", (long long)step), 1;
  for (; s->cursor < s->visit_count && s->visits[s->cursor].step == step; s->cursor++) {
    stream_visit *visit = &s->visits[s->cursor];
    int64_t begun = edgert_now_ns(), checked = s->checked_ns;
    if (n == 0) { /* nothing to do in this run: an output layer that is not wanted, say */
      if (visit->jobs && ring_skip(s, s->run_job + visit->jobs)) return 1;
      continue;
    }
    if (n % visit->units)
      return stream_fail(s, "step %lld has %lld tasks, not a multiple of %lld", (long long)step, (long long)n,
                         (long long)visit->units), 1;
    for (int64_t p = visit->first; p < visit->first + visit->count; p++) {
      const edgert_piece *piece = &l->pieces[p];
      const uint8_t *at = s->where[piece->segment];
      if (!at && !(at = ring_wait(s, s->run_job++))) return 1;
      s->bases[piece->weight] = at - l->segments[piece->segment].offset;
    }
    int64_t there = edgert_now_ns();
    run(with, n / visit->units * visit->begin, n / visit->units * visit->end);
    predict_visit(s, visit, begun, there, s->checked_ns - checked);
    if (visit->jobs) ring_release_to(s, s->run_job);
  }
  if (s->cursor == s->visit_count) s->cursor = 0;
  return 0;
}

const char *edgert_stream_error(const edgert_stream *s) { return s->message; }

edgert_stream_stats edgert_stream_figures(const edgert_stream *s) {
  pthread_mutex_lock((pthread_mutex_t *)&s->lock);
  edgert_stream_stats figures = s->figures;
  pthread_mutex_unlock((pthread_mutex_t *)&s->lock);
  return figures;
}

int32_t edgert_stream_resize(edgert_stream *s, int64_t pinned_bytes, int64_t ring_bytes) {
  ring_reset(s, 0);
  if (ring_stop(s)) return stream_fail(s, "a read from the device does not end"), 1;
  drop(s);
  s->plan.pinned_bytes = pinned_bytes;
  s->plan.ring_bytes = ring_bytes / PAGE * PAGE;
  s->failed = 0;
  return fill(s);
}

void edgert_stream_close(edgert_stream *s) {
  if (ring_stop(s)) return; /* the device may yet write to memory of ours, which therefore stays */
  drop(s);
  lookup_close(s);
  chosen_close(s);
  experts_close(s);
  if (s->source) s->source->close(s->source);
  pthread_cond_destroy(&s->space);
  pthread_cond_destroy(&s->ready);
  pthread_mutex_destroy(&s->lock);
  free(s->sequence);
  free(s->visits);
  free(s->bases);
  free((void *)s->known);
  free(s->marks);
  free(s->where);
  free(s);
}
