/* Compares outputs with those recorded at compile time, as `edgert verify` does. */
#include <math.h>
#include <string.h>

#include "program.h"

/* Number `index` of a floating-point tensor as a double; C11 has no float16, so its bits are taken apart. */
static double element(const edgert_tensor *tensor, const uint8_t *data, int64_t index) {
  const uint8_t *at = data + index * tensor->item_bytes;
  if (tensor->item_bytes == 8) {
    double value;
    memcpy(&value, at, 8);
    return value;
  }
  if (tensor->item_bytes == 4) {
    float value;
    memcpy(&value, at, 4);
    return value;
  }
  uint16_t half;
  memcpy(&half, at, 2);
  int exponent = half >> 10 & 31, fraction = half & 1023;
  double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
  return half >> 15 ? -size : size;
}

/* The largest error as a share of the range of `want`; infinite when they differ in what has no size. */
static double relative_error(const edgert_tensor *tensor, const uint8_t *got, const uint8_t *want, int64_t count) {
  edgert_tensor part = *tensor;
  if (tensor->kind == 'c') { /* real and imaginary parts, one after another */
    part.item_bytes /= 2;
    count *= 2;
    tensor = &part;
  } else if (tensor->kind != 'f')
    return memcmp(got, want, count * tensor->item_bytes) ? INFINITY : 0;
  double error = 0, extent = 0, most = 0, first = NAN;
  for (int64_t i = 0; i < count; i++) {
    double g = element(tensor, got, i), w = element(tensor, want, i);
    if (!isfinite(w)) {
      if (!(isnan(w) && isnan(g)) && g != w) return INFINITY;
      continue;
    }
    if (!isfinite(g)) return INFINITY;
    if (isnan(first)) first = w;
    error = fmax(error, fabs(g - w));
    extent = fmax(extent, fabs(w - first));
    most = fmax(most, fabs(w));
  }
  return error / (extent > 0 ? extent : most > 0 ? most : 1);
}

int compare_golden(const session *s) {
  int good = 1;
  for (int64_t i = 0; i < s->model->output_count; i++) {
    const edgert_tensor *tensor = &s->model->outputs[i];
    npy_array want;
    int64_t shape[NPY_MOST_RANK];
    if (!tensor->golden) fail(FAILED, "it carries no recorded output '%s' to compare with", tensor->name);
    const char *fault = npy_read(tensor->golden, tensor->golden_end - tensor->golden, &want);
    if (fault || want.fortran || strcmp(want.descr, tensor->descr))
      fail(FAILED, "the recorded output '%s': %s", tensor->name, fault ? fault : "of another type or order");
    int64_t count = output_shape(s, tensor, shape);
    int same = want.rank == tensor->rank && !memcmp(want.shape, shape, tensor->rank * sizeof *shape);
    double error = same ? relative_error(tensor, s->io[s->model->input_count + i], want.data, count) : INFINITY;
    int fine = error <= (strchr("fc", tensor->kind) ? s->model->tolerance : 0);
    printf("%s: error %.3g of the range, %s\n", tensor->name, error, fine ? "passed" : "FAILED");
    good &= fine;
  }
  return good;
}
