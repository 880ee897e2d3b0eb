#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl_parts.h"

enum { MOST_DEVICES = 64 };
static const uint64_t ALL_TYPES = 0xFFFFFFFF;

int32_t edgert_cl_fail(edgert_cl *cl, const char *what, int32_t code) {
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
  edgert_signals kept;
  edgert_signals_keep(&kept);
  int32_t count = edgert_opencl_find(library, &api) ? -1 : devices(&api, -1, NULL);
  edgert_signals_restore(&kept);
  return count;
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

static edgert_cl *opened(edgert_cl *cl, const char *library, int32_t device) {
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
  if (code) return edgert_cl_fail(cl, "no context on the device", code), cl;
  cl->queue = cl->api.clCreateCommandQueue(cl->context, cl->device, 0, &code);
  if (!code) cl->timed = cl->api.clCreateCommandQueue(cl->context, cl->device, CL_QUEUE_PROFILING_ENABLE_, &code);
  if (code) edgert_cl_fail(cl, "no queue on the device", code);
  return cl;
}

edgert_cl *edgert_cl_open(const char *library, int32_t device) {
  edgert_cl *cl = calloc(1, sizeof *cl);
  edgert_signals kept;
  if (!cl) return NULL;
  edgert_signals_keep(&kept);
  opened(cl, library, device);
  edgert_signals_restore(&kept);
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
  if (code) return edgert_cl_fail(cl, "the program was refused", code);
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
    return edgert_cl_fail(cl, "the kernels' groups of work items are larger than the device takes", 0);
  made->kernel = api->clCreateKernel(cl->program, launch->kernel, &code);
  if (code) return edgert_cl_fail(cl, launch->kernel, code);
  for (int64_t i = 0; i < launch->buffers && !code; i++) {
    const edgert_cl_place *place = &places[launch->first + i];
    code = api->clSetKernelArg(made->kernel, argument++, sizeof(cl_object), place->memory ? &cl->weights : &cl->arena);
    if (!code) code = api->clSetKernelArg(made->kernel, argument++, sizeof place->at, &place->at);
  }
  made->workgroup = launch->workgroup;
  made->dims = launch->dims;
  made->first_dim = argument;
  return code ? edgert_cl_fail(cl, launch->kernel, code) : 0;
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
  if (!cl->kernels) return edgert_cl_fail(cl, "no memory", 0);
  uint64_t host = cl->info.unified ? CL_MEM_ALLOC_HOST_PTR_ : 0;
  cl->arena = api->clCreateBuffer(cl->context, CL_MEM_READ_WRITE_ | host, (size_t)cl->arena_bytes, NULL, &code);
  if (code) return edgert_cl_fail(cl, "the device has no memory for the arena", code);
  if (weights_bytes) {
    uint64_t how = CL_MEM_READ_ONLY_ | (cl->info.unified ? CL_MEM_USE_HOST_PTR_ : CL_MEM_COPY_HOST_PTR_);
    cl->weights = api->clCreateBuffer(cl->context, how, (size_t)weights_bytes, (void *)weights, &code);
    if (code) return edgert_cl_fail(cl, "the device has no memory for the weights", code);
  }
  for (int64_t i = 0; i < count; i++)
    if (make_kernel(cl, &launches[i], places)) return -1;
  return 0;
}

void edgert_cl_counts(const edgert_cl *cl, int64_t *launched, int64_t *mapped) {
  *launched = cl->launched;
  *mapped = cl->mapped;
}
