#include "digest.h"

#include <string.h>

static const uint32_t K[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void plain(uint32_t h[8], const uint8_t *at, int64_t blocks) {
  for (; blocks > 0; blocks--, at += 64) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
      w[i] = (uint32_t)at[4 * i] << 24 | (uint32_t)at[4 * i + 1] << 16 | (uint32_t)at[4 * i + 2] << 8 | at[4 * i + 3];
    for (int i = 16; i < 64; i++) {
      uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
      uint32_t e = s[4], a = s[0];
      uint32_t t = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + K[i] + w[i];
      uint32_t u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
      memmove(s + 1, s, 7 * sizeof *s);
      s[4] += t;
      s[0] = t + u;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
  }
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static int has_sha(void) { /* asked once: in a virtual machine the answer takes long */
  static _Atomic int has = -1;
  unsigned a, b, c, d;
  if (has < 0) has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1;
  return has;
}

#define TARGET __attribute__((target("sha,sse4.1,ssse3")))

typedef struct {
  __m128i abef, cdgh, abef_before, cdgh_before, w[4];
} lane;

TARGET static inline __attribute__((always_inline)) void begin(lane *l, const uint32_t h[8]) {
  __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xB1);        /* CDAB */
  __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1B); /* EFGH */
  l->abef = _mm_alignr_epi8(low, high, 8);
  l->cdgh = _mm_blend_epi16(high, low, 0xF0);
}

TARGET static inline __attribute__((always_inline)) void take(lane *l, const uint8_t *at) {
  const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  for (int i = 0; i < 4; i++) l->w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * i)), order);
  l->abef_before = l->abef;
  l->cdgh_before = l->cdgh;
}

/* The message schedule and rounds as Intel's manual of the SHA extensions describes them: four rounds a turn. */
TARGET static inline __attribute__((always_inline)) void turn(lane *l, int i) {
  __m128i now = l->w[i & 3], with = _mm_add_epi32(now, _mm_load_si128((const __m128i *)(K + 4 * i)));
  l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, with);
  l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(with, 0x0E));
  if (i < 12) { /* words 16 + 4 i on take the place of words 4 i on */
    __m128i next = _mm_sha256msg1_epu32(now, l->w[(i + 1) & 3]);
    next = _mm_add_epi32(next, _mm_alignr_epi8(l->w[(i + 3) & 3], l->w[(i + 2) & 3], 4));
    l->w[i & 3] = _mm_sha256msg2_epu32(next, l->w[(i + 3) & 3]);
  }
}

TARGET static inline __attribute__((always_inline)) void add(lane *l) {
  l->abef = _mm_add_epi32(l->abef, l->abef_before);
  l->cdgh = _mm_add_epi32(l->cdgh, l->cdgh_before);
}

TARGET static inline __attribute__((always_inline)) void end(const lane *l, uint32_t h[8]) {
  __m128i low = _mm_shuffle_epi32(l->abef, 0x1B);  /* FEBA */
  __m128i high = _mm_shuffle_epi32(l->cdgh, 0xB1); /* DCHG */
  _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(low, high, 0xF0));
  _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(high, low, 8));
}

TARGET static void quick(uint32_t h[8], const uint8_t *at, int64_t blocks) {
  lane l;
  begin(&l, h);
  for (; blocks > 0; blocks--, at += 64) {
    take(&l, at);
    for (int i = 0; i < 16; i++) turn(&l, i);
    add(&l);
  }
  end(&l, h);
}

/* Two at once: each waits for its own rounds half of the time. */
TARGET static void quick_pair(uint32_t h[2][8], const uint8_t *const at[2], int64_t blocks) {
  lane a, b;
  begin(&a, h[0]);
  begin(&b, h[1]);
  for (int64_t block = 0; block < blocks; block++) {
    take(&a, at[0] + 64 * block);
    take(&b, at[1] + 64 * block);
    for (int i = 0; i < 16; i++) {
      turn(&a, i);
      turn(&b, i);
    }
    add(&a);
    add(&b);
  }
  end(&a, h[0]);
  end(&b, h[1]);
}

static void rounds(uint32_t h[8], const uint8_t *at, int64_t blocks) {
  (has_sha() ? quick : plain)(h, at, blocks);
}

static int64_t rounds_of_both(uint32_t h[2][8], const uint8_t *const at[2], int64_t blocks) {
  if (!has_sha()) return 0;
  quick_pair(h, at, blocks);
  return blocks;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_neon.h>
#include <sys/auxv.h>

enum { HAS_SHA2 = 1 << 6 }; /* HWCAP_SHA2 of the kernel's asm/hwcap.h */

/* As above, with the SHA-256 instructions of ARMv8's cryptographic extension. */
__attribute__((target("sha2"))) static void quick(uint32_t h[8], const uint8_t *at, int64_t blocks) {
  uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);
  for (; blocks > 0; blocks--, at += 64) {
    uint32x4_t w[4], abcd_before = abcd, efgh_before = efgh;
    for (int i = 0; i < 4; i++) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(at + 16 * i)));
    for (int i = 0; i < 16; i++) {
      uint32x4_t with = vaddq_u32(w[i & 3], vld1q_u32(K + 4 * i)), abcd_now = abcd;
      abcd = vsha256hq_u32(abcd, efgh, with);
      efgh = vsha256h2q_u32(efgh, abcd_now, with);
      if (i < 12)
        w[i & 3] = vsha256su1q_u32(vsha256su0q_u32(w[i & 3], w[(i + 1) & 3]), w[(i + 2) & 3], w[(i + 3) & 3]);
    }
    abcd = vaddq_u32(abcd, abcd_before);
    efgh = vaddq_u32(efgh, efgh_before);
  }
  vst1q_u32(h, abcd);
  vst1q_u32(h + 4, efgh);
}

static void rounds(uint32_t h[8], const uint8_t *at, int64_t blocks) {
  (getauxval(AT_HWCAP) & HAS_SHA2 ? quick : plain)(h, at, blocks);
}
#else
static void rounds(uint32_t h[8], const uint8_t *at, int64_t blocks) { plain(h, at, blocks); }
#endif

#if !defined(__x86_64__)
/* How many blocks of both were taken together. */
static int64_t rounds_of_both(uint32_t h[2][8], const uint8_t *const at[2], int64_t blocks) {
  (void)h, (void)at, (void)blocks;
  return 0;
}
#endif

static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* The rest of `n` bytes of which `done` blocks are in h. */
static void finish(uint32_t h[8], const uint8_t *bytes, int64_t n, int64_t done, uint8_t digest[32]) {
  uint8_t last[128] = {0};
  int64_t whole = n / 64, rest = n % 64, blocks = rest < 56 ? 1 : 2;
  rounds(h, bytes + 64 * done, whole - done);
  if (rest) memcpy(last, bytes + 64 * whole, (size_t)rest);
  last[rest] = 0x80;
  for (int i = 0; i < 8; i++) last[64 * blocks - 1 - i] = (uint8_t)((uint64_t)n * 8 >> 8 * i);
  rounds(h, last, blocks);
  for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

void edgert_sha256(const uint8_t *bytes, int64_t n, uint8_t digest[32]) {
  uint32_t h[8];
  memcpy(h, START, sizeof h);
  finish(h, bytes, n, 0, digest);
}

void edgert_sha256_pair(const uint8_t *const bytes[2], const int64_t n[2], uint8_t digests[2][32]) {
  uint32_t h[2][8];
  for (int i = 0; i < 2; i++) memcpy(h[i], START, sizeof h[i]);
  int64_t done = rounds_of_both(h, bytes, (n[0] < n[1] ? n[0] : n[1]) / 64);
  for (int i = 0; i < 2; i++) finish(h[i], bytes[i], n[i], done, digests[i]);
}
