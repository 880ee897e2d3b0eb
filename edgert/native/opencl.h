/* Runs code that was compiled for a graphics processor: its kernels through OpenCL, the rest of its steps here.
 *
 * One buffer on the device holds the arena and, behind it, inputs and outputs; another holds the weights. A run writes
 * the inputs, launches kernels in order without waiting, and reads the outputs. Where a step has no kernel the first
 * buffer is mapped for the host, which is counted. Not for several threads at once. */
#ifndef EDGERT_OPENCL_H
#define EDGERT_OPENCL_H
#include "runtime.h"

typedef struct edgert_cl edgert_cl;

/* One kernel launch: its step, name, work items a group, how many dims it takes, and its buffers: [first, +buffers) of
 * the places. */
typedef struct {
  int64_t step;
  const char *kernel;
  int64_t workgroup, dims, first, buffers;
} edgert_cl_launch;

/* Where a buffer begins: memory 0 (arena, inputs, outputs) or 1 (weights), and the byte there. */
typedef struct {
  int64_t memory, at;
} edgert_cl_place;

/* Of a device. Texts are cut to fit. */
typedef struct {
  char name[128], version[128], driver[128];
  int64_t memory_bytes, most_bytes /* of one buffer */, most_workgroup, unified;
} edgert_cl_info;

/* Opens device number `device` of all that `library` knows. NULL without memory; else ask edgert_cl_error. */
edgert_cl *edgert_cl_open(const char *library, int32_t device);
void edgert_cl_close(edgert_cl *cl);
/* What went wrong last, empty when nothing did. */
const char *edgert_cl_error(const edgert_cl *cl);
/* How many devices the library knows; -1 when it cannot be used. */
int32_t edgert_cl_describe(const edgert_cl *cl, edgert_cl_info *info);
int32_t edgert_cl_count(const char *library);
/* Builds the program from a binary of before, else (binary_bytes 0) from source. Not 0 on failure. */
int32_t edgert_cl_build(edgert_cl *cl, const char *source, int64_t source_bytes, const uint8_t *binary,
                        int64_t binary_bytes);
/* Bytes of the built program's binary, copied to `out` when that has room; 0 where the device gives none. */
int64_t edgert_cl_binary(edgert_cl *cl, uint8_t *out, int64_t room);
/* Allocates the two buffers and makes the kernels of a model with `steps` steps. weights must stay. Not 0 on failure. */
int32_t edgert_cl_prepare(edgert_cl *cl, const edgert_cl_launch *launches, int64_t count, const edgert_cl_place *places,
                          int64_t steps, int64_t arena_bytes, const uint8_t *weights, int64_t weights_bytes);
/* io[i] are host arrays of io_bytes[i] bytes, which lie at io_at[i] of the arena; first `inputs` inputs, then outputs.
 * 0 when right, 1 + the step that failed, or -1: edgert_cl_error. */
int32_t edgert_cl_run(edgert_cl *cl, edgert_rt *rt, edgert_entry entry, void *const *io, const int64_t *io_at,
                      const int64_t *io_bytes, int64_t inputs, int64_t outputs, int64_t *dims, int64_t *profile_ns);
/* Since prepare: kernels launched, times that the arena was mapped for the host between kernels. */
void edgert_cl_counts(const edgert_cl *cl, int64_t *launched, int64_t *mapped);

#endif
