#include "coding.h"

#include <string.h>

enum { LIMIT = 11, ENTRIES = 1 << LIMIT, STREAMS = 4, SYMBOLS = 256, TABLE = SYMBOLS / 2, HEAD = 8, AT_ONCE = 5 };

static uint32_t u32(const uint8_t *at) { return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24; }

static uint64_t big(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return __builtin_bswap64(value);
}

/* entries[next 11 bits] = symbol | length << 8. 0 when the lengths are those of a code. */
static int make_table(const uint8_t *packed, uint16_t *entries) {
  uint32_t at = 0;
  for (int length = 1; length <= LIMIT; length++)
    for (int symbol = 0; symbol < SYMBOLS; symbol++) {
      if ((packed[symbol / 2] >> symbol % 2 * 4 & 15) != length) continue;
      uint32_t run = ENTRIES >> length;
      if (at + run > ENTRIES) return 1;
      for (uint32_t i = 0; i < run; i++) entries[at + i] = (uint16_t)(symbol | length << 8);
      at += run;
    }
  if (!at) return 1;
  for (; at < ENTRIES; at++) entries[at] = 1 << 8; /* of a single symbol: half of all codes mean nothing */
  return 0;
}

typedef struct {
  const uint8_t *from;
  int64_t bit, bits; /* where the next code begins, and the stream ends */
} stream;

/* Decodes the four runs of n bytes, each `each` but for the last ones, to every width-th byte of `to`. */
static int decode_plane(const uint16_t *entries, stream *s, uint8_t *to, int64_t n, int64_t width) {
  int64_t each = (n + STREAMS - 1) / STREAMS, full = n - (STREAMS - 1) * each; /* the shortest run */
  int64_t i = 0;
  for (; i + AT_ONCE <= full; i += AT_ONCE) {
    uint64_t window[STREAMS];
    for (int k = 0; k < STREAMS; k++) {
      if (s[k].bit > s[k].bits) return 1;
      window[k] = big(s[k].from + (s[k].bit >> 3)) << (s[k].bit & 7);
    }
    for (int j = 0; j < AT_ONCE; j++)
      for (int k = 0; k < STREAMS; k++) {
        uint16_t entry = entries[window[k] >> (64 - LIMIT)];
        window[k] <<= entry >> 8;
        s[k].bit += entry >> 8;
        to[(k * each + i + j) * width] = (uint8_t)entry;
      }
  }
  for (int k = 0; k < STREAMS; k++) {
    int64_t left = n - k * each < each ? n - k * each : each;
    for (int64_t j = i; j < left; j++) {
      if (s[k].bit > s[k].bits) return 1;
      uint16_t entry = entries[(big(s[k].from + (s[k].bit >> 3)) << (s[k].bit & 7)) >> (64 - LIMIT)];
      s[k].bit += entry >> 8;
      to[(k * each + j) * width] = (uint8_t)entry;
    }
    if (s[k].bit > s[k].bits) return 1;
  }
  return 0;
}

int32_t edgert_decode(const uint8_t *from, int64_t size, uint8_t *to, int64_t n) {
  uint16_t entries[ENTRIES];
  if (size < HEAD || u32(from) != (uint64_t)n) return 1;
  int64_t width = from[4], at = HEAD;
  if ((width != 1 && width != 2 && width != 4) || n % width) return 1;
  int64_t count = n / width;
  for (int64_t plane = 0; plane < width; plane++) {
    uint8_t *place = to + plane;
    if (!(from[5] >> plane & 1)) {
      if (size - at < count) return 1;
      if (width == 1) memcpy(place, from + at, (size_t)count);
      else
        for (int64_t i = 0; i < count; i++) place[i * width] = from[at + i];
      at += count;
      continue;
    }
    if (size - at < TABLE + 4 * STREAMS || make_table(from + at, entries)) return 1;
    const uint8_t *sizes = from + at + TABLE;
    stream streams[STREAMS];
    at += TABLE + 4 * STREAMS;
    for (int k = 0; k < STREAMS; k++) {
      int64_t bytes = u32(sizes + 4 * k);
      if (bytes > size - at) return 1;
      streams[k] = (stream){from + at, 0, 8 * bytes};
      at += bytes;
    }
    if (decode_plane(entries, streams, place, count, width)) return 1;
  }
  return at != size;
}
