/* A quick sum of bytes that were right before: of every segment that is read again. Kept in memory only, so that each
 * processor may have its own. */
#include <string.h>

#include "digest.h"

/* Eight lanes, each a bijection of its state for a given word and of the word for a given state: a single changed word
 * always changes the result of its lane. */
enum { LANES = 8 };

static uint64_t plain(const uint8_t *bytes, int64_t n) {
  uint64_t lane[LANES], word[LANES], all = (uint64_t)n;
  for (int i = 0; i < LANES; i++) lane[i] = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);
  for (; n >= 8 * LANES; n -= 8 * LANES, bytes += 8 * LANES) {
    memcpy(word, bytes, sizeof word);
    for (int i = 0; i < LANES; i++) lane[i] = (lane[i] << 29 | lane[i] >> 35) * 0xff51afd7ed558ccdu ^ word[i];
  }
  memset(word, 0, sizeof word);
  memcpy(word, bytes, (size_t)n);
  for (int i = 0; i < LANES; i++) {
    lane[i] = (lane[i] << 29 | lane[i] >> 35) * 0xff51afd7ed558ccdu ^ word[i];
    all = (all ^ lane[i]) * 0xc4ceb9fe1a85ec53u;
    all ^= all >> 32;
  }
  return all;
}

/* The same with a round of AES, which moves 16 bytes at once: as fast as memory can be read. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define TARGET __attribute__((target("aes,sse4.1")))
typedef __m128i word16;

static int has_aes(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && c >> 25 & 1;
}

TARGET static inline word16 load(const uint8_t *at) { return _mm_loadu_si128((const __m128i *)at); }
TARGET static inline word16 one_round(word16 state, word16 word) { return _mm_aesenc_si128(state, word); }
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_neon.h>
#include <sys/auxv.h>
#define TARGET __attribute__((target("aes")))
typedef uint8x16_t word16;

static int has_aes(void) { return getauxval(AT_HWCAP) >> 3 & 1; } /* HWCAP_AES of the kernel's asm/hwcap.h */

TARGET static inline word16 load(const uint8_t *at) { return vld1q_u8(at); }
TARGET static inline word16 one_round(word16 state, word16 word) {
  return veorq_u8(vaesmcq_u8(vaeseq_u8(state, vdupq_n_u8(0))), word);
}
#endif

#if defined(TARGET)
TARGET static uint64_t quick(const uint8_t *bytes, int64_t n) {
  enum { WORD = 16 };
  uint8_t last[WORD * LANES] = {0};
  uint64_t all[2], length = (uint64_t)n;
  word16 lane[LANES];
  memset(last, 0x5a, WORD);
  memcpy(last, &length, sizeof length);
  for (int i = 0; i < LANES; i++, last[WORD - 1]++) lane[i] = load(last);
  for (; n >= WORD * LANES; n -= WORD * LANES, bytes += WORD * LANES)
    for (int i = 0; i < LANES; i++) lane[i] = one_round(lane[i], load(bytes + WORD * i));
  memset(last, 0, sizeof last);
  memcpy(last, bytes, (size_t)n);
  for (int i = 0; i < LANES; i++) lane[i] = one_round(lane[i], load(last + WORD * i));
  for (int i = 1; i < LANES; i++) lane[0] = one_round(lane[0], lane[i]);
  memset(last, 0, WORD);
  for (int i = 0; i < 2; i++) lane[0] = one_round(lane[0], load(last)); /* the last lane's bits everywhere, too */
  memcpy(all, &lane[0], sizeof all);
  return all[0] ^ all[1];
}

uint64_t edgert_mix(const uint8_t *bytes, int64_t n) {
  static _Atomic int can = -1; /* asking takes long in virtual machines */
  if (can < 0) can = has_aes();
  return (can ? quick : plain)(bytes, n);
}
#else
uint64_t edgert_mix(const uint8_t *bytes, int64_t n) { return plain(bytes, n); }
#endif
