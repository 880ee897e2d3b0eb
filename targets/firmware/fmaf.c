/* a * b + c rounded once (to nearest even), in integers: for cores without an FPU, where a library's goes through
 * double precision. */
#include <stdint.h>

static uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

/* A finite number as mantissa * 2^(exponent - 150): 24 bits with the leading one set, or 0. */
static uint32_t split(uint32_t bits, int32_t *exponent) {
  uint32_t mantissa = bits & 0x7FFFFF;
  *exponent = (int32_t)(bits >> 23 & 0xFF);
  if (*exponent) return mantissa | 0x800000;
  *exponent = 1;
  while (mantissa && !(mantissa & 0x800000)) {
    mantissa <<= 1;
    --*exponent;
  }
  return mantissa;
}

float fmaf(float a, float b, float c) {
  uint32_t x = bits_of(a), y = bits_of(b), z = bits_of(c);
  uint32_t sign = (x ^ y) & 0x80000000, sign_c = z & 0x80000000;
  if ((x << 1) >= 0xFF000000u || (y << 1) >= 0xFF000000u || (z << 1) >= 0xFF000000u || !(x << 1) || !(y << 1))
    return a * b + c; /* an infinity, a NaN or a product of zero: the product is exact */
  int32_t ex, ey, ez;
  uint64_t product = (uint64_t)split(x, &ex) * split(y, &ey);
  uint64_t addend = split(z, &ez);
  /* The product with its leading one at bit 61 or 60, of weight 2^(e - 61) with e its exponent without bias. */
  int32_t e = ex + ey - 300 + 47;
  product <<= 14;
  addend <<= 38; /* leading one at bit 61 */
  int32_t e_c = ez - 150 + 23;
  if (addend) {
    int32_t shift = e - e_c;
    if (shift >= 0) {
      uint64_t kept = shift < 63 ? addend >> shift : 0;
      addend = kept | (shift < 63 ? (kept << shift) != addend : 1); /* what falls off, as one sticky bit */
    } else {
      shift = -shift;
      uint64_t kept = shift < 63 ? product >> shift : 0;
      product = kept | (shift < 63 ? (kept << shift) != product : 1);
      e = e_c;
    }
  }
  uint64_t sum;
  if (sign == sign_c || !addend) {
    sum = product + addend;
  } else if (product >= addend) {
    sum = product - addend;
  } else {
    sum = addend - product;
    sign = sign_c;
  }
  if (!sum) return float_of(sign == sign_c ? sign : 0);
  while (!(sum >> 62)) { /* leading one to bit 62, whose weight is then 2^(e + 1) */
    sum <<= 1;
    --e;
  }
  int32_t biased = e + 1 + 127, drop = 39;
  if (biased < 1) { /* denormal */
    drop += 1 - biased;
    biased = 1;
  }
  uint64_t mantissa = drop < 64 ? sum >> drop : 0;
  uint64_t rest = drop < 64 ? sum << (64 - drop) : 0;
  if (drop >= 64) rest = drop == 64 ? sum : 1;
  if (rest > 0x8000000000000000u || (rest == 0x8000000000000000u && (mantissa & 1))) mantissa++;
  uint32_t bits = (uint32_t)mantissa + ((uint32_t)(biased - 1) << 23); /* a carry moves on to the exponent */
  if (bits >= 0x7F800000u) bits = 0x7F800000u;
  return float_of(sign | bits);
}
