/* Several callers at once on two pools, loops of many sizes: every iteration must run exactly once a loop.
 * Built with -fsanitize=thread it also shows that the pool orders its memory accesses: that sees a missing order
 * also where nothing went wrong, and is slow, so it takes fewer ROUNDS. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "pool.h"
#include "runtime.h"

#ifndef ROUNDS
#define ROUNDS 300
#endif

enum { N = 5000, LOOPS = 50, CALLERS = 4 };

static int wrong;

static void add(edgert_ctx *ctx, int64_t begin, int64_t end) {
  int64_t *counts = (int64_t *)ctx->arena;
  for (int64_t i = begin; i < end; i++) counts[i] += i + 1;
}

static void nested(edgert_ctx *ctx, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    edgert_ctx inner = *ctx; /* a loop inside a loop's piece finds the pool busy and runs alone */
    inner.arena += i * 100 * (int64_t)sizeof(int64_t);
    ctx->parallel(&inner, add, 100, 1);
  }
}

static int32_t entry(edgert_ctx *ctx) {
  for (int r = 0; r < LOOPS; r++) ctx->parallel(ctx, add, (r * 97) % N, r % 7);
  ctx->parallel(ctx, nested, N / 100, 1);
  return 0;
}

static void *caller(void *threads) {
  static _Thread_local int64_t counts[N];
  edgert_rt *rt = edgert_rt_get((int32_t)(intptr_t)threads);
  for (int k = 0; k < ROUNDS; k++) {
    for (int i = 0; i < N; i++) counts[i] = 0;
    edgert_rt_run(rt, entry, (uint8_t *)counts, 0, 0, 0, 0, 0);
    for (int64_t i = 0; i < N; i++) {
      int64_t want = i % 100 + 1;
      for (int r = 0; r < LOOPS; r++) want += i < (r * 97) % N ? i + 1 : 0;
      if (counts[i] != want) __atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
    }
    if (k % 50 == 0) usleep(500); /* long enough for the workers to fall asleep */
  }
  return NULL;
}

static int64_t runs[8];

static void count(edgert_ctx *ctx, int64_t begin, int64_t end) {
  (void)ctx;
  for (int64_t i = begin; i < end; i++) __atomic_fetch_add(&runs[i], 1, __ATOMIC_RELAXED);
}

/* Loops of 2 pieces and of 8 in turn: a worker late for the one must not take a piece of the other by its ticket. */
static void alternate(void) {
  edgert_pool *pool = edgert_pool_get(2);
  edgert_ctx ctx = {0};
  for (int k = 0; k < ROUNDS * 1000; k++) {
    int n = k % 2 ? 2 : 8;
    for (int i = 0; i < 8; i++) runs[i] = 0;
    edgert_pool_run(pool, &ctx, count, n, 1);
    for (int i = 0; i < 8; i++) wrong |= runs[i] != (i < n);
  }
}

int main(void) {
  pthread_t threads[CALLERS];
  alternate();
  for (int64_t n = 1; n < 40; n++)
    for (int64_t pieces = 1; pieces <= n; pieces++) {
      if (edgert_piece_begin(n, pieces, 0) != 0 || edgert_piece_begin(n, pieces, pieces) != n) wrong = 1;
      for (int64_t i = 0; i < pieces; i++)
        if (edgert_piece_begin(n, pieces, i + 1) - edgert_piece_begin(n, pieces, i) < n / pieces) wrong = 1;
    }
  for (intptr_t i = 0; i < CALLERS; i++) pthread_create(&threads[i], 0, caller, (void *)(i < 2 ? 3 : 2 + i));
  for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], 0);
  puts(wrong ? "wrong" : "right");
  return wrong;
}
