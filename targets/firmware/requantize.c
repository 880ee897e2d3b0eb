/* Requantization for cores without an FPU: the bits of a float product, by integers but where these leave it in doubt
 * (targets/kernels/fixed_requantize.py says why that works). */
#include <stdint.h>

#define LIMB 9

static float float_of(int32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

/* sum * m as floats multiply, rounded to nearest even, between -2^20 and 2^20. */
__attribute__((noinline)) static int32_t rounded(int32_t sum, float m) {
  float value = (float)sum * m;
  int32_t bits;
  if (value > 1048576.0f) value = 1048576.0f;
  if (value < -1048576.0f) value = -1048576.0f;
  value += 12582912.0f; /* 1.5 * 2^23, in whose binade floats have no fraction */
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits - 0x4B400000;
}

/* rint(float(sum) * m), right at least within the bounds that the compiler knew. factor: m 2^(shift + 2 LIMB) to the
 * nearest integer; multiplier: the bits of m, 0 where factor is m exactly; how: shift, bits of a sum that matter, and
 * how near to the middle integers are in doubt, in 5, 5 and 12 bits. */
int32_t edgert_requantized(int32_t sum, int32_t factor, uint32_t how, int32_t multiplier) {
  int32_t shift = how & 31, doubt = how >> 10, most = (int32_t)((1u << (how >> 5 & 31)) - 1), t = sum;
  if (t > most) t = most;
  if (t < ~most) t = ~most;
  int32_t product = t * (factor & ((1 << LIMB) - 1)) >> LIMB;
  product = (t * (factor >> LIMB & ((1 << LIMB) - 1)) + product) >> LIMB;
  product += t * (factor >> 2 * LIMB) + (1 << (shift - 1));
  if (((uint32_t)(product + doubt) & ((1u << shift) - 1)) >= 2u * doubt) return product >> shift;
  return rounded(sum, multiplier ? float_of(multiplier) : (float)factor * float_of((127 - 2 * LIMB - shift) << 23));
}
