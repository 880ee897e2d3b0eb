#define _GNU_SOURCE
#include "throttle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool.h"

enum { BURST = 2000000 }; /* ns that the device may be ahead: what sleeping took too long is made up for */

typedef struct {
  edgert_source source;
  edgert_source *from;
  pthread_mutex_t lock;
  int64_t under_way, busy; /* reads; until when the device is busy, ns */
  int64_t count;
  edgert_speed speeds[];
} throttle;

/* Of the largest measured block and then depth that are no larger; else of the smallest. */
static int64_t rate_of(const throttle *t, int64_t n, int64_t depth) {
  const edgert_speed *best = NULL, *least = &t->speeds[0];
  for (const edgert_speed *s = t->speeds; s < t->speeds + t->count; s++) {
    if (s->block < least->block || (s->block == least->block && s->depth < least->depth)) least = s;
    if (s->block > n || s->depth > depth) continue;
    if (!best || s->block > best->block || (s->block == best->block && s->depth > best->depth)) best = s;
  }
  return (best ? best : least)->rate;
}

static int64_t throttled_read(edgert_source *self, int64_t offset, void *to, int64_t n) {
  throttle *t = (throttle *)self;
  pthread_mutex_lock(&t->lock);
  int64_t now = edgert_now_ns(), rate = rate_of(t, n, ++t->under_way);
  int64_t begin = t->busy > now - BURST ? t->busy : now - BURST;
  int64_t end = t->busy = begin + (int64_t)((double)n * 1e9 / (double)rate);
  pthread_mutex_unlock(&t->lock);
  int64_t got = t->from->read(t->from, offset, to, n), left;
  while ((left = end - edgert_now_ns()) > 0)
    nanosleep(&(struct timespec){left / 1000000000, left % 1000000000}, NULL);
  pthread_mutex_lock(&t->lock);
  t->under_way--;
  pthread_mutex_unlock(&t->lock);
  return got;
}

static void throttled_close(edgert_source *self) {
  throttle *t = (throttle *)self;
  t->from->close(t->from);
  pthread_mutex_destroy(&t->lock);
  free(t);
}

edgert_source *edgert_source_throttled(edgert_source *from, const edgert_speed *speeds, int64_t count) {
  throttle *t = calloc(1, sizeof *t + (size_t)count * sizeof *speeds);
  if (!t) {
    from->close(from);
    return NULL;
  }
  t->source = (edgert_source){throttled_read, throttled_close, from->align};
  t->from = from;
  t->count = count;
  memcpy(t->speeds, speeds, (size_t)count * sizeof *speeds);
  pthread_mutex_init(&t->lock, NULL);
  return &t->source;
}
