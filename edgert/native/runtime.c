#define _GNU_SOURCE
#include "runtime.h"

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool.h"

/* One run's state; lives on the caller's stack, reached from model code's calls through ctx->runtime. */
typedef struct {
  edgert_ctx ctx;
  edgert_rt *rt;
  int64_t *profile_ns; /* [steps] */
  int64_t steps;
  int64_t last_ns; /* when the step before ended */
  edgert_stream *stream;
  edgert_task task; /* of the streamed step under way, whose tasks are counted from `first` */
  int64_t first, grain;
} run_state;

static void parallel(edgert_ctx *ctx, edgert_task task, int64_t n, int64_t grain) {
  edgert_pool_run(((run_state *)ctx->runtime)->rt, ctx, task, n, grain);
}

static void serial(edgert_ctx *ctx, edgert_task task, int64_t n, int64_t grain) {
  (void)grain;
  if (n > 0) task(ctx, 0, n);
}

static void mark(edgert_ctx *ctx, int64_t step) {
  run_state *run = ctx->runtime;
  int64_t now = edgert_now_ns();
  if (step >= 0 && step < run->steps) run->profile_ns[step] += now - run->last_ns;
  run->last_ns = now;
}

static void shifted(edgert_ctx *ctx, int64_t begin, int64_t end) {
  run_state *run = ctx->runtime;
  run->task(ctx, run->first + begin, run->first + end);
}

static void range(void *with, int64_t begin, int64_t end) {
  run_state *run = with;
  run->first = begin;
  run->ctx.parallel(&run->ctx, shifted, end - begin, run->grain);
}

static int32_t stream(edgert_ctx *ctx, int64_t step, edgert_task task, int64_t n, int64_t grain) {
  run_state *run = ctx->runtime;
  run->task = task;
  run->grain = grain;
  return edgert_stream_step(run->stream, ctx, step, range, run, n);
}

int32_t edgert_rt_version(void) { return EDGERT_RUNTIME_VERSION; }

edgert_rt *edgert_rt_get(int32_t threads) { return edgert_pool_get(threads); }

int32_t edgert_rt_run_streamed(edgert_rt *rt, edgert_entry entry, edgert_stream *from, uint8_t *arena,
                               const uint8_t *weights, void *const *io, int64_t *dims, int64_t *profile_ns,
                               int64_t steps) {
  run_state run = {
      .ctx = {.arena = arena,
              .weights = weights,
              .io = io,
              .dims = dims,
              .parallel = rt ? parallel : serial,
              .mark = profile_ns ? mark : NULL,
              .stream = from ? stream : NULL},
      .rt = rt,
      .profile_ns = profile_ns,
      .steps = steps,
      .stream = from,
  };
  run.ctx.runtime = &run;
  if (from) edgert_stream_begin(from, &run.ctx);
  if (profile_ns) {
    for (int64_t i = 0; i < steps; i++) profile_ns[i] = 0;
    run.last_ns = edgert_now_ns();
  }
  int32_t failed = entry(&run.ctx);
  if (from && !failed) edgert_stream_end(from);
  return failed;
}

int32_t edgert_rt_run(edgert_rt *rt, edgert_entry entry, uint8_t *arena, const uint8_t *weights, void *const *io,
                      int64_t *dims, int64_t *profile_ns, int64_t steps) {
  return edgert_rt_run_streamed(rt, entry, NULL, arena, weights, io, dims, profile_ns, steps);
}

int32_t edgert_rt_permit_amx(void) {
#if defined(__x86_64__)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 }; /* asm/prctl.h of newer kernels */
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) ? 1 : 0;
#else
  return 1;
#endif
}
