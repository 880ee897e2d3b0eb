/* A pool of threads that runs the pieces of one loop at a time. */
#ifndef EDGERT_POOL_H
#define EDGERT_POOL_H
#include "edgert.h"

typedef struct edgert_pool edgert_pool;

/* The pool of `threads` threads, the caller's one among them; made at first use, then shared by the whole process.
 * NULL when threads is 1 or less (nothing to share work with) or when there is no memory for it. */
edgert_pool *edgert_pool_get(int32_t threads);

/* Runs task over [0, n) in pieces of at least `grain` iterations and returns when all are done.
 * Allocates nothing. If the pool is at work for someone else, the caller runs everything itself. */
void edgert_pool_run(edgert_pool *pool, edgert_ctx *ctx, edgert_task task, int64_t n, int64_t grain);

/* Splits [0, n) into `pieces` nearly equal parts and gives where part `index` begins; index == pieces gives n. */
int64_t edgert_piece_begin(int64_t n, int64_t pieces, int64_t index);

/* A clock that only goes forward, in nanoseconds. */
int64_t edgert_now_ns(void);

#endif
