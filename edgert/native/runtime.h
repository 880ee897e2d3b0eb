/* What a caller of model code uses: the Python runner through ctypes, the standalone program directly. */
#ifndef EDGERT_RUNTIME_H
#define EDGERT_RUNTIME_H
#include "edgert.h"
#include "stream.h"

/* Grows by one with every change to the functions below. */
#define EDGERT_RUNTIME_VERSION 2

typedef struct edgert_pool edgert_rt;
typedef int32_t (*edgert_entry)(edgert_ctx *ctx);

int32_t edgert_rt_version(void);

/* The runtime for a number of threads (1 to 256, the caller's one among them). Made once per number and process and
 * never destroyed; its threads sleep when idle. NULL is the runtime of one thread, and valid below. */
edgert_rt *edgert_rt_get(int32_t threads);

/* One run of the model. Allocates nothing. profile_ns: room for `steps` nanosecond counts, or NULL for no profile.
 * Gives what the model code gives: 0 when right, otherwise 1 + the step that failed. */
int32_t edgert_rt_run(edgert_rt *rt, edgert_entry entry, uint8_t *arena, const uint8_t *weights, void *const *io,
                      int64_t *dims, int64_t *profile_ns, int64_t steps);

/* The same with weights from `stream` (NULL: all at `weights`). A step may also fail for want of its weights: then
 * edgert_stream_error has the reason. */
int32_t edgert_rt_run_streamed(edgert_rt *rt, edgert_entry entry, edgert_stream *stream, uint8_t *arena,
                               const uint8_t *weights, void *const *io, int64_t *dims, int64_t *profile_ns,
                               int64_t steps);

/* Asks the kernel for the AMX tile registers, which a process must do before using them. 0 when granted. */
int32_t edgert_rt_permit_amx(void);

#endif
