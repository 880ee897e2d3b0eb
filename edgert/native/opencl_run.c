#define _GNU_SOURCE
#include "opencl_parts.h"
#include "pool.h"

enum { MOST_ARGUMENTS = 256 };

typedef struct {
  edgert_ctx ctx;
  edgert_cl *cl;
  edgert_rt *rt;
  cl_object queue;
  void **io; /* where inputs and outputs are while the host works on them */
  const int64_t *io_at;
  int64_t io_count, last_ns;
  uint8_t *host; /* the mapped arena; NULL while the device has it */
  int64_t *profile_ns;
} run_state;

static void parallel(edgert_ctx *ctx, edgert_task task, int64_t n, int64_t grain) {
  run_state *run = ctx->runtime;
  if (run->rt)
    edgert_pool_run(run->rt, ctx, task, n, grain);
  else if (n > 0)
    task(ctx, 0, n);
}

static void mark(edgert_ctx *ctx, int64_t step) {
  run_state *run = ctx->runtime;
  run->profile_ns[step] = edgert_now_ns() - run->last_ns;
}

/* Maps the arena for a step that runs here. */
static int32_t to_host(run_state *run) {
  edgert_cl *cl = run->cl;
  if (!run->host) {
    int32_t code = 0;
    run->host = cl->api.clEnqueueMapBuffer(run->queue, cl->arena, 1, CL_MAP_READ_WRITE_, 0, (size_t)cl->arena_bytes, 0,
                                           NULL, NULL, &code);
    if (code || !run->host) return edgert_cl_fail(cl, "the arena cannot be mapped", code);
    run->ctx.arena = run->host;
    for (int64_t i = 0; i < run->io_count; i++) run->io[i] = run->host + run->io_at[i];
    cl->mapped++;
  }
  run->last_ns = edgert_now_ns();
  return 0;
}

static int32_t to_device(run_state *run) {
  if (!run->host) return 0;
  int32_t code = run->cl->api.clEnqueueUnmapMemObject(run->queue, run->cl->arena, run->host, 0, NULL, NULL);
  run->host = NULL;
  return code ? edgert_cl_fail(run->cl, "the arena cannot be unmapped", code) : 0;
}

static int32_t device(edgert_ctx *ctx, int64_t step, int64_t items, const int64_t *dims) {
  run_state *run = ctx->runtime;
  edgert_cl *cl = run->cl;
  const edgert_opencl_api *api = &cl->api;
  if (items < 0) return to_host(run);
  if (to_device(run)) return -1;
  if (step < 0 || step >= cl->steps || !cl->kernels[step].kernel) return edgert_cl_fail(cl, "a step has no kernel", 0);
  if (!items) return 0;
  const step_kernel *with = &cl->kernels[step];
  int32_t code = 0;
  for (int64_t i = 0; i < with->dims && !code; i++)
    code = api->clSetKernelArg(with->kernel, with->first_dim + (uint32_t)i, sizeof dims[i], &dims[i]);
  size_t size = (size_t)items, group = (size_t)with->workgroup;
  cl_object event = NULL;
  cl_object *wanted = run->profile_ns ? &event : NULL;
  if (!code) code = api->clEnqueueNDRangeKernel(run->queue, with->kernel, 1, NULL, &size, &group, 0, NULL, wanted);
  if (code) return edgert_cl_fail(cl, "a kernel cannot be launched", code);
  cl->launched++;
  if (event) {
    uint64_t begin = 0, end = 0;
    code = api->clWaitForEvents(1, &event);
    if (!code) code = api->clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START_, sizeof begin, &begin, NULL);
    if (!code) code = api->clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END_, sizeof end, &end, NULL);
    api->clReleaseEvent(event);
    if (code) return edgert_cl_fail(cl, "a kernel failed", code);
    run->profile_ns[step] = (int64_t)(end - begin);
  }
  return 0;
}

int32_t edgert_cl_run(edgert_cl *cl, edgert_rt *rt, edgert_entry entry, void *const *io, const int64_t *io_at,
                      const int64_t *io_bytes, int64_t inputs, int64_t outputs, int64_t *dims, int64_t *profile_ns) {
  const edgert_opencl_api *api = &cl->api;
  void *mapped[MOST_ARGUMENTS];
  if (inputs + outputs > MOST_ARGUMENTS) return edgert_cl_fail(cl, "too many inputs and outputs", 0);
  run_state run = {
      .ctx = {.weights = cl->host_weights,
              .dims = dims, .parallel = parallel, .mark = profile_ns ? mark : NULL, .io = mapped, .device = device},
      .cl = cl,
      .rt = rt,
      .queue = profile_ns ? cl->timed : cl->queue,
      .io = mapped,
      .io_at = io_at,
      .io_count = inputs + outputs,
      .profile_ns = profile_ns,
  };
  run.ctx.runtime = &run;
  int32_t code = 0;
  cl->error[0] = 0;
  for (int64_t i = 0; i < inputs && !code; i++)
    if (io_bytes[i])
      code = api->clEnqueueWriteBuffer(run.queue, cl->arena, 0, (size_t)io_at[i], (size_t)io_bytes[i], io[i], 0, NULL, NULL);
  if (code) return edgert_cl_fail(cl, "an input cannot be written", code);
  int32_t failed = entry(&run.ctx);
  to_device(&run);
  for (int64_t i = inputs; i < inputs + outputs && !code; i++)
    if (io_bytes[i])
      code = api->clEnqueueReadBuffer(run.queue, cl->arena, 0, (size_t)io_at[i], (size_t)io_bytes[i], io[i], 0, NULL, NULL);
  int32_t finished = api->clFinish(run.queue); /* also after a failure: the arrays are the caller's */
  if (!code) code = finished;
  if (failed) return failed;
  return code ? edgert_cl_fail(cl, "the device failed", code) : 0;
}
