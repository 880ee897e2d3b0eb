#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "futex.h"

enum { MAX_THREADS = 256, PIECES_PER_THREAD = 4, STACK_BYTES = 1 << 20, SPIN_NS = 50 * 1000 };

/* One loop at a time. `ticket` holds the loop's number (high half) and how many pieces were claimed from its front and
 * its back (a quarter each): a thread claims a piece by compare-and-swap, so one that wakes late and holds an old number
 * can never claim a piece of a newer loop. The caller takes the first pieces and the others the last ones, so that with
 * two threads each finds in its own cache what it made of the same part of other loops.
 * The caller works too and waits only for pieces that were claimed, never for threads still asleep: a process
 * forked from this one, which has no workers, still gets right answers. */
struct edgert_pool {
  _Alignas(64) _Atomic uint64_t ticket;
  _Atomic(edgert_task) task;
  _Atomic(edgert_ctx *) ctx;
  _Atomic int64_t n;
  _Atomic uint32_t pieces;
  _Alignas(64) _Atomic uint32_t left;   /* pieces not finished yet; the caller sleeps on it */
  _Atomic uint32_t caller_sleeps;
  _Alignas(64) _Atomic uint32_t posted; /* the newest loop's number; idle workers sleep on it */
  _Atomic int32_t sleepers;
  _Alignas(64) atomic_flag busy;
  int32_t threads;
};

int64_t edgert_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t edgert_piece_begin(int64_t n, int64_t pieces, int64_t index) {
  int64_t rest = n % pieces; /* the first `rest` pieces are one longer; no product here can overflow */
  return n / pieces * index + (index < rest ? index : rest);
}

/* Claims and runs pieces of loop `number` until none is left: from the front (1) or the back (0). */
static void work(edgert_pool *pool, uint32_t number, int front) {
  uint64_t ticket = atomic_load(&pool->ticket);
  while ((uint32_t)(ticket >> 32) == number) {
    edgert_task task = atomic_load_explicit(&pool->task, memory_order_acquire);
    edgert_ctx *ctx = atomic_load_explicit(&pool->ctx, memory_order_acquire);
    int64_t n = atomic_load_explicit(&pool->n, memory_order_acquire);
    uint32_t pieces = atomic_load_explicit(&pool->pieces, memory_order_acquire);
    uint32_t first = (uint32_t)ticket >> 16, last = ticket & UINT16_MAX;
    if (first + last >= pieces) return;
    uint32_t index = front ? first : pieces - 1 - last;
    /* Success proves that the loop did not change since the ticket was read, hence that the reads above are its own. */
    if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + (front ? 1 << 16 : 1))) continue;
    task(ctx, edgert_piece_begin(n, pieces, index), edgert_piece_begin(n, pieces, (int64_t)index + 1));
    if (atomic_fetch_sub(&pool->left, 1) == 1 && atomic_load(&pool->caller_sleeps)) futex_wake(&pool->left, 1);
    ticket = atomic_load(&pool->ticket);
  }
}

/* Spins while *word is `seen`, but not longer than SPIN_NS. Returns what *word holds then. */
static uint32_t spin_while(_Atomic uint32_t *word, uint32_t seen) {
  int64_t end = 0;
  for (;;) {
    for (int i = 0; i < 32; i++) {
      uint32_t value = atomic_load_explicit(word, memory_order_acquire);
      if (value != seen) return value;
      spin_hint();
    }
    int64_t now = edgert_now_ns();
    if (!end) end = now + SPIN_NS;
    if (now >= end) return seen;
  }
}

static void *worker(void *argument) {
  edgert_pool *pool = argument;
  uint32_t seen = 0;
  prctl(PR_SET_NAME, "edgert", 0, 0, 0);
  for (;;) {
    uint32_t number = spin_while(&pool->posted, seen);
    while (number == seen) {
      atomic_fetch_add(&pool->sleepers, 1);
      futex_wait(&pool->posted, seen);
      atomic_fetch_sub(&pool->sleepers, 1);
      number = atomic_load(&pool->posted);
    }
    seen = number;
    work(pool, number, 0);
  }
  return NULL;
}

static edgert_pool *pool_make(int32_t threads) {
  edgert_pool *pool = aligned_alloc(64, sizeof *pool);
  if (!pool) return NULL;
  *pool = (edgert_pool){.threads = 1, .busy = ATOMIC_FLAG_INIT};
  pthread_attr_t attr;
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals stay with the program's own threads */
  for (pthread_t thread; pool->threads < threads; pool->threads++)
    if (pthread_create(&thread, &attr, worker, pool)) break; /* fewer threads, same answers */
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return pool;
}

edgert_pool *edgert_pool_get(int32_t threads) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static edgert_pool *made[MAX_THREADS + 1];
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if (threads <= 1) return NULL;
  pthread_mutex_lock(&lock);
  if (!made[threads]) made[threads] = pool_make(threads);
  edgert_pool *pool = made[threads];
  pthread_mutex_unlock(&lock);
  return pool;
}

void edgert_pool_run(edgert_pool *pool, edgert_ctx *ctx, edgert_task task, int64_t n, int64_t grain) {
  int64_t pieces = n / (grain > 0 ? grain : 1), most = pool ? (int64_t)pool->threads * PIECES_PER_THREAD : 1;
  if (n <= 0) return;
  if (pieces > most) pieces = most;
  if (pieces <= 1 || pool->threads <= 1 || atomic_flag_test_and_set(&pool->busy)) {
    task(ctx, 0, n);
    return;
  }
  uint32_t number = atomic_load(&pool->posted) + 1;
  /* First a ticket of the new loop without a piece: whoever still holds the last loop's ticket then fails to swap it,
   * even if the new number of pieces would make its next piece seem to exist. Each release orders that before the
   * value; the reader's acquire makes the swap see it. */
  atomic_store(&pool->ticket, (uint64_t)number << 32 | UINT32_MAX);
  atomic_store_explicit(&pool->task, task, memory_order_release);
  atomic_store_explicit(&pool->ctx, ctx, memory_order_release);
  atomic_store_explicit(&pool->n, n, memory_order_release);
  atomic_store_explicit(&pool->pieces, (uint32_t)pieces, memory_order_release);
  atomic_store_explicit(&pool->left, (uint32_t)pieces, memory_order_release);
  atomic_store(&pool->ticket, (uint64_t)number << 32);
  atomic_store(&pool->posted, number);
  int32_t asleep = atomic_load(&pool->sleepers);
  if (asleep > 0) futex_wake(&pool->posted, asleep < pieces - 1 ? asleep : (int)pieces - 1);
  work(pool, number, 1);
  uint32_t left = atomic_load(&pool->left);
  while (left) {
    left = spin_while(&pool->left, left);
    if (!left) break;
    atomic_store(&pool->caller_sleeps, 1);
    futex_wait(&pool->left, left);
    atomic_store(&pool->caller_sleeps, 0);
    left = atomic_load(&pool->left);
  }
  atomic_flag_clear(&pool->busy);
}
