/* Products of bytes on Cortex-M with DSP instructions, convolutions and dense layers alike: a few pixels at a time are
 * widened to 16 bits, once for all output channels, and product_dsp.S multiplies them.
 *
 * held: word k * tile + i has the two numbers of pair k of pixel i. weights: for every two channels what their sums
 * start from, 256 b1 + b0 and b0, the floats m0 and m1 / 256 and a word a pair of numbers (targets/kernels/conv2d_dsp.py
 * packs them). */
#include <stdint.h>

#define MOST_RUN 256

typedef struct {
  int32_t channel_pairs, weight_bytes, out_channels, magic;  /* these four are read by product_dsp.S */
  int32_t tile, pixels, out_width, height, width_bytes;      /* width_bytes: of a line of the image */
  int32_t taps, run, lines, line_step, pixel_step;           /* runs of bytes a pixel, their length, lines between */
  int32_t top, left_bytes, pad;                              /* pads, and the byte that they hold */
} edgert_dsp_product_shape;

typedef void (*tile_function)(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile1(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile2(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile3(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile4(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
static const tile_function tiles[4] = {edgert_dsp_tile1, edgert_dsp_tile2, edgert_dsp_tile3, edgert_dsp_tile4};

/* Bytes 0 and 2 of each word, then 1 and 3; of what is left over, neighbours. */
static uint32_t *widen(const int8_t *x, int32_t count, uint32_t *to, int32_t step) {
  for (; count >= 4; count -= 4, x += 4) {
    uint32_t word, even, odd;
    __builtin_memcpy(&word, x, 4);
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(word));
    to[0] = even;
    to[step] = odd;
    to += 2 * step;
  }
  for (; count > 0; count -= 2, x += 2, to += step) {
    *to = (uint16_t)x[0];
    if (count > 1) *to |= (uint32_t)x[1] << 16;
  }
  return to;
}

/* A run that is not all inside its line, copied to `to` with pads around. */
static const int8_t *padded(const int8_t *line, int32_t at, const edgert_dsp_product_shape *s, int8_t *to) {
  for (int32_t i = 0; i < s->run; i++, at++)
    to[i] = line && at >= 0 && at < s->width_bytes ? line[at] : (int8_t)s->pad;
  return to;
}

void edgert_dsp_product(const int8_t *image, const int32_t *weights, int8_t *out, uint32_t *held,
                        const edgert_dsp_product_shape *s) {
  int8_t border[MOST_RUN];
  int32_t y = -s->top, at = -s->left_bytes, left = s->out_width, tall;
  for (int32_t pixels = s->pixels; pixels > 0; pixels -= tall, out += tall * s->out_channels) {
    tall = pixels < s->tile ? pixels : s->tile;
    for (int32_t i = 0; i < tall; i++) {
      uint32_t *to = held + i;
      for (int32_t tap = 0, row = y; tap < s->taps; tap++, row += s->lines) {
        const int8_t *line = (uint32_t)row < (uint32_t)s->height ? image + row * s->width_bytes : 0;
        int inside = line && at >= 0 && at + s->run <= s->width_bytes;
        to = widen(inside ? line + at : padded(line, at, s, border), s->run, to, tall);
      }
      at += s->pixel_step;
      if (--left == 0) left = s->out_width, at = -s->left_bytes, y += s->line_step;
    }
    tiles[tall - 1](held, weights, out, s);
  }
}
