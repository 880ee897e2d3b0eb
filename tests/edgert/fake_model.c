/* Hand-written model code for tests: what the compiler would emit, in 60 lines, so that no compiler is needed.
 *
 * Inputs x, y: float32 [n, 4]. Outputs: z = x * w + y, float32 [n, 4]; positive: the elements of z above 0 in order,
 * float32 [count] with the count in slot 1. Weights: w, float32 [4] at weights + 0, then anything.
 * Fails in step 1 when z[0] is NaN. -DOVERRUN reports more elements than there is room for. */
#include "edgert.h"

enum { COLUMNS = 4 };

static void scale(edgert_ctx *ctx, int64_t begin, int64_t end) {
  const float *x = ctx->io[0], *y = ctx->io[1], *w = (const float *)ctx->weights;
  float *z = ctx->io[2], *copy = (float *)ctx->arena;
  for (int64_t i = begin * COLUMNS; i < end * COLUMNS; i++) copy[i] = z[i] = x[i] * w[i % COLUMNS] + y[i];
}

int32_t edgert_run(edgert_ctx *ctx) {
  int64_t rows = ctx->dims[0], count = 0;
  ctx->parallel(ctx, scale, rows, 8);
  if (ctx->mark) ctx->mark(ctx, 0);
  const float *z = (const float *)ctx->arena;
  float *positive = ctx->io[3];
  if (rows && z[0] != z[0]) return 2;
  for (int64_t i = 0; i < rows * COLUMNS; i++)
    if (z[i] > 0) positive[count++] = z[i];
  ctx->dims[1] = count;
#ifdef OVERRUN
  ctx->dims[1] = 1 << 30;
#endif
  if (ctx->mark) ctx->mark(ctx, 1);
  return 0;
}
