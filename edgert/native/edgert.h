/* The contract between compiled model code and the runtime that calls it.
 *
 * Model code is freestanding: its shared object imports no symbol at all. All it gets comes through
 * edgert_ctx, so the same object runs under the Python runner, the standalone executable, or firmware. */
#ifndef EDGERT_H
#define EDGERT_H
#include <stdint.h>

#define EDGERT_ABI 2

typedef struct edgert_ctx edgert_ctx;

/* A piece of one step: the iterations [begin, end) of its outermost loop. Pieces are independent. */
typedef void (*edgert_task)(edgert_ctx *ctx, int64_t begin, int64_t end);

/* Members are fixed in order and size for one EDGERT_ABI. */
struct edgert_ctx {
  uint8_t *arena;          /* arena_bytes, 64-byte aligned; written freely */
  const uint8_t *weights;  /* weights_bytes, 64-byte aligned, read only */
  void *const *io;         /* the inputs, then the outputs, each 64-byte aligned or not */
  int64_t *dims;           /* dim slots: inputs' symbolic dims set by the caller, the others by the code */
  /* Runs task over [0, n), split among threads in pieces of at least grain iterations. Never NULL. */
  void (*parallel)(edgert_ctx *ctx, edgert_task task, int64_t n, int64_t grain);
  /* Called after each step when profiling, else NULL. */
  void (*mark)(edgert_ctx *ctx, int64_t step);
  void *runtime;           /* the runtime's own; code leaves it alone */
  /* For weights that are read while the model runs (stream.h); both NULL when all of them lie at `weights`.
   * bases[k] + its offset in weights.bin is where weight k is now. Steps with such weights are run by `stream`, which
   * sees to it that what tasks [0, n) read is there and splits them; not 0 when it could not be read. */
  const uint8_t *const *bases;
  int32_t (*stream)(edgert_ctx *ctx, int64_t step, edgert_task task, int64_t n, int64_t grain);
  /* Called before each step of code for a graphics processor (opencl.h), which no other code reads. Launches step's
   * kernel on `items` work items with these dims; items -1: the step runs here, in this memory. Not 0 on failure. */
  int32_t (*device)(edgert_ctx *ctx, int64_t step, int64_t items, const int64_t *dims);
};

/* The entry symbol of every code object. 0 when right; otherwise 1 + the step that failed. */
int32_t edgert_run(edgert_ctx *ctx);

#endif
