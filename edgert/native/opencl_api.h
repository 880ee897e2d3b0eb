/* What is used of OpenCL 1.2, found at run time: nothing here needs its headers or library to build. */
#ifndef EDGERT_OPENCL_API_H
#define EDGERT_OPENCL_API_H
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

typedef void *cl_object; /* platform, device, context, queue, memory, program, kernel or event */

enum {
  CL_DEVICE_MAX_WORK_GROUP_SIZE_ = 0x1004,
  CL_DEVICE_MAX_MEM_ALLOC_SIZE_ = 0x1010,
  CL_DEVICE_GLOBAL_MEM_SIZE_ = 0x101F,
  CL_DEVICE_NAME_ = 0x102B,
  CL_DRIVER_VERSION_ = 0x102D,
  CL_DEVICE_VERSION_ = 0x102F,
  CL_DEVICE_HOST_UNIFIED_MEMORY_ = 0x1035,
  CL_QUEUE_PROFILING_ENABLE_ = 2,
  CL_MEM_READ_WRITE_ = 1,
  CL_MEM_READ_ONLY_ = 4,
  CL_MEM_USE_HOST_PTR_ = 8,
  CL_MEM_ALLOC_HOST_PTR_ = 16,
  CL_MEM_COPY_HOST_PTR_ = 32,
  CL_MAP_READ_WRITE_ = 3,
  CL_PROGRAM_BINARY_SIZES_ = 0x1165,
  CL_PROGRAM_BINARIES_ = 0x1166,
  CL_PROGRAM_BUILD_LOG_ = 0x1183,
  CL_PROFILING_COMMAND_START_ = 0x1282,
  CL_PROFILING_COMMAND_END_ = 0x1283,
};

/* name, type of result, parameters */
#define EDGERT_OPENCL_FUNCTIONS(X)                                                                                    \
  X(clGetPlatformIDs, int32_t, (uint32_t, cl_object *, uint32_t *))                                                   \
  X(clGetDeviceIDs, int32_t, (cl_object, uint64_t, uint32_t, cl_object *, uint32_t *))                                \
  X(clGetDeviceInfo, int32_t, (cl_object, uint32_t, size_t, void *, size_t *))                                        \
  X(clCreateContext, cl_object, (const intptr_t *, uint32_t, const cl_object *, void *, void *, int32_t *))           \
  X(clReleaseContext, int32_t, (cl_object))                                                                           \
  X(clCreateCommandQueue, cl_object, (cl_object, cl_object, uint64_t, int32_t *))                                     \
  X(clReleaseCommandQueue, int32_t, (cl_object))                                                                      \
  X(clCreateProgramWithSource, cl_object, (cl_object, uint32_t, const char **, const size_t *, int32_t *))            \
  X(clCreateProgramWithBinary, cl_object,                                                                             \
    (cl_object, uint32_t, const cl_object *, const size_t *, const uint8_t **, int32_t *, int32_t *))                 \
  X(clBuildProgram, int32_t, (cl_object, uint32_t, const cl_object *, const char *, void *, void *))                  \
  X(clGetProgramBuildInfo, int32_t, (cl_object, cl_object, uint32_t, size_t, void *, size_t *))                       \
  X(clGetProgramInfo, int32_t, (cl_object, uint32_t, size_t, void *, size_t *))                                       \
  X(clReleaseProgram, int32_t, (cl_object))                                                                           \
  X(clCreateKernel, cl_object, (cl_object, const char *, int32_t *))                                                  \
  X(clSetKernelArg, int32_t, (cl_object, uint32_t, size_t, const void *))                                             \
  X(clReleaseKernel, int32_t, (cl_object))                                                                            \
  X(clCreateBuffer, cl_object, (cl_object, uint64_t, size_t, void *, int32_t *))                                      \
  X(clReleaseMemObject, int32_t, (cl_object))                                                                         \
  X(clEnqueueNDRangeKernel, int32_t,                                                                                  \
    (cl_object, cl_object, uint32_t, const size_t *, const size_t *, const size_t *, uint32_t, const cl_object *,     \
     cl_object *))                                                                                                    \
  X(clEnqueueWriteBuffer, int32_t,                                                                                    \
    (cl_object, cl_object, uint32_t, size_t, size_t, const void *, uint32_t, const cl_object *, cl_object *))         \
  X(clEnqueueReadBuffer, int32_t,                                                                                     \
    (cl_object, cl_object, uint32_t, size_t, size_t, void *, uint32_t, const cl_object *, cl_object *))               \
  X(clEnqueueMapBuffer, void *,                                                                                       \
    (cl_object, cl_object, uint32_t, uint64_t, size_t, size_t, uint32_t, const cl_object *, cl_object *, int32_t *))  \
  X(clEnqueueUnmapMemObject, int32_t, (cl_object, cl_object, void *, uint32_t, const cl_object *, cl_object *))       \
  X(clFinish, int32_t, (cl_object))                                                                                   \
  X(clWaitForEvents, int32_t, (uint32_t, const cl_object *))                                                          \
  X(clGetEventProfilingInfo, int32_t, (cl_object, uint32_t, size_t, void *, size_t *))                                \
  X(clReleaseEvent, int32_t, (cl_object))

#define X(name, result, parameters) typedef result(*name##_fn) parameters;
EDGERT_OPENCL_FUNCTIONS(X)
#undef X

typedef struct {
#define X(name, result, parameters) name##_fn name;
  EDGERT_OPENCL_FUNCTIONS(X)
#undef X
} edgert_opencl_api;

/* Loads the library of that name. NULL when right, else what is missing. The library stays loaded. */
const char *edgert_opencl_find(const char *library, edgert_opencl_api *api);

/* What a process does on these signals, kept and put back around calls in which a driver starts: some take them. */
enum { EDGERT_SIGNALS = 5 };
typedef struct {
  struct sigaction was[EDGERT_SIGNALS];
} edgert_signals;
void edgert_signals_keep(edgert_signals *kept);
void edgert_signals_restore(const edgert_signals *kept);

#endif
