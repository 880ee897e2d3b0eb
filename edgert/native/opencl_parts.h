/* What opencl.c (a device and a model on it) and opencl_run.c (one run) share. */
#ifndef EDGERT_OPENCL_PARTS_H
#define EDGERT_OPENCL_PARTS_H
#include "opencl.h"
#include "opencl_api.h"

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

/* Notes what went wrong; -1. */
int32_t edgert_cl_fail(edgert_cl *cl, const char *what, int32_t code);

#endif
