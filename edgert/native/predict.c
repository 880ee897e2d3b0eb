/* How long a run will take, by a model of the queue: from how long the latest run computed between and within its visits,
 * and how fast bytes came while readers read. */
#include <stdlib.h>

#include "pool.h"
#include "stream_parts.h"

enum { LEAST = 1 << 20, RUNS = 3 }; /* bytes that tell a speed; in the first runs the ring starts empty */

void predict_reading(edgert_stream *s, int32_t more, int64_t bytes) {
  int64_t now = edgert_now_ns();
  if (s->reading) s->reading_ns += now - s->reading_since;
  s->reading_since = now;
  s->reading += more;
  s->reading_bytes += bytes;
}

void predict_begin(edgert_stream *s) {
  pthread_mutex_lock(&s->lock);
  predict_reading(s, 0, 0);
  s->reading_bytes = s->reading_ns = 0;
  pthread_mutex_unlock(&s->lock);
  s->mark_ns = edgert_now_ns();
}

void predict_visit(edgert_stream *s, stream_visit *visit, int64_t begun, int64_t there, int64_t checking) {
  visit->before_ns = begun - s->mark_ns;
  s->mark_ns = edgert_now_ns();
  visit->ns = s->mark_ns - there + checking;
}

void edgert_stream_end(edgert_stream *s) {
  s->after_ns = edgert_now_ns() - s->mark_ns;
  pthread_mutex_lock(&s->lock);
  predict_reading(s, 0, 0);
  if (s->reading_bytes >= LEAST) s->rate = (double)s->reading_bytes / (double)s->reading_ns;
  pthread_mutex_unlock(&s->lock);
  s->timed = 1;
}

/* The ring as ring.c fills it; times in nanoseconds. */
typedef struct {
  const edgert_stream *s;
  int64_t *ends;           /* [slots] where in the ring a job ends, counted on and on */
  double *there, *given;   /* [slots] when its bytes are there; when its place is free again, or -1 */
  int64_t head, next, old; /* bytes and jobs begun; jobs before `old` do not matter any more */
  double free_at[MOST_READERS];
} queue;

/* When there is room for job `next`, which would end at *end; -1: nobody knows yet. */
static double room_for(queue *q, int64_t *end) {
  const edgert_stream *s = q->s;
  int64_t size = pages(s->layout.segments[s->sequence[q->next % s->job_count]].size), ring = s->plan.ring_bytes;
  int64_t left = ring - q->head % ring;
  *end = q->head + size + (left < size ? left : 0);
  while (q->old < q->next && q->ends[q->old % s->slots] < *end - ring) q->old++;
  if (*end <= ring) return 0;
  return q->old < q->next ? q->given[q->old % s->slots] : -1;
}

/* Begins the next block, as claim_block in ring.c. 0 where there is no room. */
static int32_t read_block(queue *q) {
  const edgert_stream *s = q->s;
  int64_t readers = s->plan.threads, reader = 0, first = q->next, bytes = 0, end, last = -1;
  for (int64_t i = 1; i < readers; i++)
    if (q->free_at[i] < q->free_at[reader]) reader = i;
  double start = q->free_at[reader];
  for (;; q->next++) {
    const edgert_segment *segment = &s->layout.segments[s->sequence[q->next % s->job_count]];
    if (q->next > first && (last != segment->offset || bytes + segment->size > s->plan.block_bytes)) break;
    double room = room_for(q, &end);
    if (room < 0 || (q->next > first && (room > start || end != q->head + pages(segment->size)))) break;
    start = room > start ? room : start;
    q->ends[q->next % s->slots] = q->head = end;
    q->given[q->next % s->slots] = -1;
    bytes += segment->size;
    last = segment->offset + segment->size;
  }
  q->free_at[reader] = start + (double)(bytes * readers) / s->rate;
  for (int64_t n = first; n < q->next; n++) q->there[n % s->slots] = q->free_at[reader];
  return q->next > first;
}

int64_t edgert_stream_predicted(const edgert_stream *s) {
  if (!s->timed || (s->job_count && s->rate <= 0)) return 0;
  queue q = {.s = s};
  size_t slots = (size_t)(s->job_count ? s->slots : 1);
  q.ends = calloc(slots, sizeof *q.ends);
  q.there = calloc(slots, sizeof *q.there);
  q.given = calloc(slots, sizeof *q.given);
  double now = 0, before = 0;
  int32_t right = q.ends && q.there && q.given;
  for (int64_t run = 0, job = 0; right && run < RUNS; run++) {
    before = now;
    for (int64_t v = 0; right && v < s->visit_count; v++) {
      const stream_visit *visit = &s->visits[v];
      int64_t jobs = job + visit->jobs;
      now += (double)visit->before_ns;
      while (right && q.next < jobs) right = read_block(&q);
      for (int64_t n = job; n < jobs; n++)
        if (q.there[n % s->slots] > now) now = q.there[n % s->slots];
      now += (double)visit->ns;
      for (; job < jobs; job++) q.given[job % s->slots] = now;
    }
    now += (double)s->after_ns;
  }
  free(q.ends);
  free(q.there);
  free(q.given);
  return right ? (int64_t)(now - before) : 0;
}
