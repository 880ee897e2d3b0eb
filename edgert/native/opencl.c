#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl_api.h"
#include "pool.h"

enum { MOST_DEVICES = 64, MOST_ARGUMENTS = 256 };
static const uint64_t ALL_TYPES = 0xFFFFFFFF;

typedef struct {
  cl_object kernel; /* NULL: the step runs on the host */
  int64_t workgroup, dims;
  uint32_t first_dim; /* its first argument that is a dim */
} step_kernel;

struct edgert_cl {
  edgert_opencl_api api;
  cl_object device, context, queue, timed, program, arena, weights;
  edgert_cl_info info;
  step_kernel *kernels; /* [steps] */
  const uint8_t *host_weights;
  int64_t steps, arena_bytes, launched, mapped;
  char error[1024];
};

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

static int32_t fail(edgert_cl *cl, const char *what, int32_t code) {
  snprintf(cl->error, sizeof cl->error, "%s (OpenCL error %d)", what, (int)code);
  return -1;
}

const char *edgert_cl_error(const edgert_cl *cl) { return cl->error; }

/* Device number `wanted` over all platforms, and how many there are. */
static int32_t devices(const edgert_opencl_api *api, int32_t wanted, cl_object *found) {
  cl_object platforms[MOST_DEVICES], of_one[MOST_DEVICES];
  uint32_t count = 0, all = 0;
  if (api->clGetPlatformIDs(MOST_DEVICES, platforms, &count)) return 0;
  if (count > MOST_DEVICES) count = MOST_DEVICES;
  for (uint32_t p = 0; p < count; p++) {
    uint32_t n = 0;
    if (api->clGetDeviceIDs(platforms[p], ALL_TYPES, MOST_DEVICES, of_one, &n)) continue;
    if (n > MOST_DEVICES) n = MOST_DEVICES;
    if (found && wanted >= 0 && (uint32_t)wanted >= all && (uint32_t)wanted < all + n) *found = of_one[wanted - all];
    all += n;
  }
  return (int32_t)all;
}

int32_t edgert_cl_count(const char *library) {
  edgert_opencl_api api;
  return edgert_opencl_find(library, &api) ? -1 : devices(&api, -1, NULL);
}

static void describe(edgert_cl *cl) {
  const edgert_opencl_api *api = &cl->api;
  uint64_t memory = 0, most = 0;
  size_t group = 0;
  uint32_t unified = 0;
  api->clGetDeviceInfo(cl->device, CL_DEVICE_NAME_, sizeof cl->info.name - 1, cl->info.name, NULL);
  api->clGetDeviceInfo(cl->device, CL_DEVICE_VERSION_, sizeof cl->info.version - 1, cl->info.version, NULL);
  api->clGetDeviceInfo(cl->device, CL_DRIVER_VERSION_, sizeof cl->info.driver - 1, cl->info.driver, NULL);
  api->clGetDeviceInfo(cl->device, CL_DEVICE_GLOBAL_MEM_SIZE_, sizeof memory, &memory, NULL);
  api->clGetDeviceInfo(cl->device, CL_DEVICE_MAX_MEM_ALLOC_SIZE_, sizeof most, &most, NULL);
  api->clGetDeviceInfo(cl->device, CL_DEVICE_MAX_WORK_GROUP_SIZE_, sizeof group, &group, NULL);
  api->clGetDeviceInfo(cl->device, CL_DEVICE_HOST_UNIFIED_MEMORY_, sizeof unified, &unified, NULL);
  cl->info.memory_bytes = (int64_t)memory;
  cl->info.most_bytes = (int64_t)most;
  cl->info.most_workgroup = (int64_t)group;
  cl->info.unified = unified != 0;
}

edgert_cl *edgert_cl_open(const char *library, int32_t device) {
  edgert_cl *cl = calloc(1, sizeof *cl);
  if (!cl) return NULL;
  const char *missing = edgert_opencl_find(library, &cl->api);
  if (missing) {
    snprintf(cl->error, sizeof cl->error, "%s", missing);
    return cl;
  }
  int32_t count = devices(&cl->api, device, &cl->device), code = 0;
  if (!cl->device) {
    snprintf(cl->error, sizeof cl->error, "there is no OpenCL device %d: there are %d", (int)device, (int)count);
    return cl;
  }
  describe(cl);
  cl->context = cl->api.clCreateContext(NULL, 1, &cl->device, NULL, NULL, &code);
  if (code) return fail(cl, "no context on the device", code), cl;
  cl->queue = cl->api.clCreateCommandQueue(cl->context, cl->device, 0, &code);
  if (!code) cl->timed = cl->api.clCreateCommandQueue(cl->context, cl->device, CL_QUEUE_PROFILING_ENABLE_, &code);
  if (code) fail(cl, "no queue on the device", code);
  return cl;
}

int32_t edgert_cl_describe(const edgert_cl *cl, edgert_cl_info *info) {
  *info = cl->info;
  return 0;
}

static void drop(int32_t (*release)(cl_object), cl_object *object) {
  if (*object) release(*object);
  *object = NULL;
}

static void drop_model(edgert_cl *cl) {
  for (int64_t i = 0; cl->kernels && i < cl->steps; i++) drop(cl->api.clReleaseKernel, &cl->kernels[i].kernel);
  free(cl->kernels);
  cl->kernels = NULL;
  drop(cl->api.clReleaseMemObject, &cl->arena);
  drop(cl->api.clReleaseMemObject, &cl->weights);
}

void edgert_cl_close(edgert_cl *cl) {
  if (!cl) return;
  drop_model(cl);
  drop(cl->api.clReleaseProgram, &cl->program);
  drop(cl->api.clReleaseCommandQueue, &cl->queue);
  drop(cl->api.clReleaseCommandQueue, &cl->timed);
  drop(cl->api.clReleaseContext, &cl->context);
  free(cl);
}

int32_t edgert_cl_build(edgert_cl *cl, const char *source, int64_t source_bytes, const uint8_t *binary,
                        int64_t binary_bytes) {
  const edgert_opencl_api *api = &cl->api;
  size_t size = (size_t)(binary_bytes ? binary_bytes : source_bytes);
  int32_t code = 0;
  drop(api->clReleaseProgram, &cl->program);
  cl->error[0] = 0;
  if (binary_bytes)
    cl->program = api->clCreateProgramWithBinary(cl->context, 1, &cl->device, &size, &binary, NULL, &code);
  else
    cl->program = api->clCreateProgramWithSource(cl->context, 1, &source, &size, &code);
  if (code) return fail(cl, "the program was refused", code);
  code = api->clBuildProgram(cl->program, 1, &cl->device, "-cl-std=CL1.2", NULL, NULL);
  if (!code) return 0;
  char log[640] = "";
  api->clGetProgramBuildInfo(cl->program, cl->device, CL_PROGRAM_BUILD_LOG_, sizeof log - 1, log, NULL);
  for (char *at = log; *at; at++)
    if (*at == '\n') *at = ' ';
  snprintf(cl->error, sizeof cl->error, "the driver cannot build the kernels (OpenCL error %d): %.600s", (int)code, log);
  return -1;
}

int64_t edgert_cl_binary(edgert_cl *cl, uint8_t *out, int64_t room) {
  size_t size = 0;
  if (cl->api.clGetProgramInfo(cl->program, CL_PROGRAM_BINARY_SIZES_, sizeof size, &size, NULL)) return 0;
  if (size && out && room >= (int64_t)size)
    if (cl->api.clGetProgramInfo(cl->program, CL_PROGRAM_BINARIES_, sizeof out, &out, NULL)) return 0;
  return (int64_t)size;
}

static int32_t make_kernel(edgert_cl *cl, const edgert_cl_launch *launch, const edgert_cl_place *places) {
  const edgert_opencl_api *api = &cl->api;
  step_kernel *made = &cl->kernels[launch->step];
  uint32_t argument = 0;
  int32_t code = 0;
  if (launch->workgroup > cl->info.most_workgroup)
    return fail(cl, "the kernels' groups of work items are larger than the device takes", 0);
  made->kernel = api->clCreateKernel(cl->program, launch->kernel, &code);
  if (code) return fail(cl, launch->kernel, code);
  for (int64_t i = 0; i < launch->buffers && !code; i++) {
    const edgert_cl_place *place = &places[launch->first + i];
    code = api->clSetKernelArg(made->kernel, argument++, sizeof(cl_object), place->memory ? &cl->weights : &cl->arena);
    if (!code) code = api->clSetKernelArg(made->kernel, argument++, sizeof place->at, &place->at);
  }
  made->workgroup = launch->workgroup;
  made->dims = launch->dims;
  made->first_dim = argument;
  return code ? fail(cl, launch->kernel, code) : 0;
}

int32_t edgert_cl_prepare(edgert_cl *cl, const edgert_cl_launch *launches, int64_t count, const edgert_cl_place *places,
                          int64_t steps, int64_t arena_bytes, const uint8_t *weights, int64_t weights_bytes) {
  const edgert_opencl_api *api = &cl->api;
  int32_t code = 0;
  drop_model(cl);
  cl->error[0] = 0;
  cl->launched = cl->mapped = 0;
  cl->steps = steps;
  cl->host_weights = weights;
  cl->arena_bytes = arena_bytes > 0 ? arena_bytes : 64;
  cl->kernels = calloc((size_t)steps + 1, sizeof *cl->kernels);
  if (!cl->kernels) return fail(cl, "no memory", 0);
  uint64_t host = cl->info.unified ? CL_MEM_ALLOC_HOST_PTR_ : 0;
  cl->arena = api->clCreateBuffer(cl->context, CL_MEM_READ_WRITE_ | host, (size_t)cl->arena_bytes, NULL, &code);
  if (code) return fail(cl, "the device has no memory for the arena", code);
  if (weights_bytes) {
    uint64_t how = CL_MEM_READ_ONLY_ | (cl->info.unified ? CL_MEM_USE_HOST_PTR_ : CL_MEM_COPY_HOST_PTR_);
    cl->weights = api->clCreateBuffer(cl->context, how, (size_t)weights_bytes, (void *)weights, &code);
    if (code) return fail(cl, "the device has no memory for the weights", code);
  }
  for (int64_t i = 0; i < count; i++)
    if (make_kernel(cl, &launches[i], places)) return -1;
  return 0;
}

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
    if (code || !run->host) return fail(cl, "the arena cannot be mapped", code);
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
  return code ? fail(run->cl, "the arena cannot be unmapped", code) : 0;
}

static int32_t device(edgert_ctx *ctx, int64_t step, int64_t items, const int64_t *dims) {
  run_state *run = ctx->runtime;
  edgert_cl *cl = run->cl;
  const edgert_opencl_api *api = &cl->api;
  if (items < 0) return to_host(run);
  if (to_device(run)) return -1;
  if (step < 0 || step >= cl->steps || !cl->kernels[step].kernel) return fail(cl, "a step has no kernel", 0);
  if (!items) return 0;
  const step_kernel *with = &cl->kernels[step];
  int32_t code = 0;
  for (int64_t i = 0; i < with->dims && !code; i++)
    code = api->clSetKernelArg(with->kernel, with->first_dim + (uint32_t)i, sizeof dims[i], &dims[i]);
  size_t size = (size_t)items, group = (size_t)with->workgroup;
  cl_object event = NULL;
  cl_object *wanted = run->profile_ns ? &event : NULL;
  if (!code) code = api->clEnqueueNDRangeKernel(run->queue, with->kernel, 1, NULL, &size, &group, 0, NULL, wanted);
  if (code) return fail(cl, "a kernel cannot be launched", code);
  cl->launched++;
  if (event) {
    uint64_t begin = 0, end = 0;
    code = api->clWaitForEvents(1, &event);
    if (!code) code = api->clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START_, sizeof begin, &begin, NULL);
    if (!code) code = api->clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END_, sizeof end, &end, NULL);
    api->clReleaseEvent(event);
    if (code) return fail(cl, "a kernel failed", code);
    run->profile_ns[step] = (int64_t)(end - begin);
  }
  return 0;
}

int32_t edgert_cl_run(edgert_cl *cl, edgert_rt *rt, edgert_entry entry, void *const *io, const int64_t *io_at,
                      const int64_t *io_bytes, int64_t inputs, int64_t outputs, int64_t *dims, int64_t *profile_ns) {
  const edgert_opencl_api *api = &cl->api;
  void *mapped[MOST_ARGUMENTS];
  if (inputs + outputs > MOST_ARGUMENTS) return fail(cl, "too many inputs and outputs", 0);
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
  if (code) return fail(cl, "an input cannot be written", code);
  int32_t failed = entry(&run.ctx);
  to_device(&run);
  for (int64_t i = inputs; i < inputs + outputs && !code; i++)
    if (io_bytes[i])
      code = api->clEnqueueReadBuffer(run.queue, cl->arena, 0, (size_t)io_at[i], (size_t)io_bytes[i], io[i], 0, NULL, NULL);
  int32_t finished = api->clFinish(run.queue); /* also after a failure: the arrays are the caller's */
  if (!code) code = finished;
  if (failed) return failed;
  return code ? fail(cl, "the device failed", code) : 0;
}

void edgert_cl_counts(const edgert_cl *cl, int64_t *launched, int64_t *mapped) {
  *launched = cl->launched;
  *mapped = cl->mapped;
}
