/* Products of bytes on Cortex-M with DSP instructions, convolutions and dense layers alike: a few pixels at a time are
 * widened to 16 bits, once for all output channels, and product_dsp.S multiplies them.
 *
 * held: word i has 128 times the sum of pixel i's numbers, word (k + 1) * tile + i the two of pair k. weights: for every
 * two channels 256 b1 and b0, the floats m0 and m1 / 256, and a word a pair (targets/kernels/conv2d_dsp.py packs). */
#include <stdint.h>

#define MOST_RUN 256

typedef struct {
  int32_t channel_pairs, weight_bytes, out_channels, magic;  /* these four are read by product_dsp.S */
  int32_t pixels, out_width, height, width_bytes;            /* width_bytes: of a line of the image */
  int32_t taps, run, lines, line_step, pixel_step;           /* runs of bytes a pixel, their length, lines between */
  int32_t top, left_bytes, pad;                              /* pads, and the byte that they hold */
} edgert_dsp_product_shape;

typedef void (*tile_function)(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile1(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile2(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile3(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);
void edgert_dsp_tile4(const uint32_t *, const int32_t *, int8_t *, const edgert_dsp_product_shape *);

/* A pixel's runs to words `step` bytes apart: bytes 0 and 2 of each word, then 1 and 3; of what is left over, neighbours.
 * next: bytes from the end of a run to the next one. Gives their sum. */
uint32_t edgert_dsp_runs(const int8_t *x, int32_t run, uint32_t *to, int32_t step, int32_t taps, int32_t next);

/* A pixel some of whose runs are not inside the image: copied with pads around first. */
static __attribute__((noinline)) uint32_t at_border(const int8_t *image, int32_t y, int32_t at, uint32_t *to,
                                                    int32_t step, const edgert_dsp_product_shape *s) {
  int8_t run[MOST_RUN];
  uint32_t sum = 0;
  const int32_t words = (s->run + 1) / 2;
  for (int32_t tap = 0; tap < s->taps; tap++, y += s->lines) {
    const int8_t *line = (uint32_t)y < (uint32_t)s->height ? image + y * s->width_bytes : 0;
    for (int32_t i = 0; i < s->run; i++)
      run[i] = line && (uint32_t)(at + i) < (uint32_t)s->width_bytes ? line[at + i] : (int8_t)s->pad;
    sum += edgert_dsp_runs(run, s->run, to, 4 * step, 1, 0);
    to += step * words;
  }
  return sum;
}

/* Tiles of `most` pixels, and of one at the end. */
static __attribute__((noinline)) void product(const int8_t *image, const int32_t *weights, int8_t *out,
                                              uint32_t *restrict held, const edgert_dsp_product_shape *restrict s,
                                              int32_t most, tile_function tile) {
  int32_t y = -s->top, at = -s->left_bytes, left = s->out_width, tall;
  const int32_t next = s->lines * s->width_bytes - s->run, last_at = s->width_bytes - s->run;
  const int32_t last_y = s->height - (s->taps - 1) * s->lines;
  for (int32_t pixels = s->pixels; pixels > 0; pixels -= tall, out += tall * s->out_channels) {
    tall = pixels < most ? 1 : most;
    for (int32_t i = 0; i < tall; i++) {
      uint32_t *to = held + tall + i, sum;
      if (y >= 0 && y < last_y && at >= 0 && at <= last_at)
        sum = edgert_dsp_runs(image + y * s->width_bytes + at, s->run, to, 4 * tall, s->taps, next);
      else
        sum = at_border(image, y, at, to, tall, s);
      held[i] = sum << 7;
      at += s->pixel_step;
      if (--left == 0) left = s->out_width, at = -s->left_bytes, y += s->line_step;
    }
    (tall == 1 ? edgert_dsp_tile1 : tile)(held, weights, out, s);
  }
}

/* One for each size, so that only those that a model has are linked. */
#define PRODUCT(N)                                                                                        \
  void edgert_dsp_product##N(const int8_t *image, const int32_t *weights, int8_t *out, uint32_t *held,    \
                             const edgert_dsp_product_shape *s) {                                         \
    product(image, weights, out, held, s, N, edgert_dsp_tile##N);                                         \
  }
PRODUCT(1)
PRODUCT(2)
PRODUCT(3)
PRODUCT(4)
