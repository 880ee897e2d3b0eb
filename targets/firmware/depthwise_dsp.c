/* Depthwise 3 x 3 convolutions of bytes on Cortex-M with DSP instructions: a channel at a time is widened into lines of
 * 16-bit numbers with pads around, which depthwise_dsp.S reads two at once. Results may lie over the input: of another
 * channel they overwrite nothing, of their own it has been read. */
#include <stdint.h>

typedef struct {
  int32_t magic, out_step, outputs, out_lines, out_line_step;  /* these seven are read by depthwise_dsp.S */
  int32_t plane_step, plane_line;                              /* bytes to what the next outputs read, and of a line */
  int32_t channels, stride, lines, line_step, numbers, step;   /* of the image: what is read of it */
  int32_t start, plane_words, pads;                            /* the first number that is no pad; two pads */
} edgert_dsp_plane_shape;

void edgert_dsp_plane1(const int16_t *, int8_t *, const int32_t *, const edgert_dsp_plane_shape *);
void edgert_dsp_plane2(const int16_t *, int8_t *, const int32_t *, const edgert_dsp_plane_shape *);

static void widen(const int8_t *x, int16_t *to, int32_t count, int32_t step) {
  for (; count >= 4; count -= 4, x += 4 * step, to += 4) {
    int8_t a = x[0], b = x[step], c = x[2 * step], d = x[3 * step];
    to[0] = a, to[1] = b, to[2] = c, to[3] = d;
  }
  for (; count > 0; count--, x += step) *to++ = *x;
}

void edgert_dsp_depthwise(const int8_t *image, const int32_t *weights, int8_t *out, uint32_t *plane,
                          const edgert_dsp_plane_shape *s) {
  for (int32_t i = 0; i < s->plane_words; i++) plane[i] = (uint32_t)s->pads;
  for (int32_t c = 0; c < s->channels; c++, weights += 6) {
    const int8_t *from = image + c;
    int16_t *to = (int16_t *)plane + s->start;
    for (int32_t line = 0; line < s->lines; line++, from += s->line_step, to += s->plane_line / 2)
      widen(from, to, s->numbers, s->step);
    (s->stride == 1 ? edgert_dsp_plane1 : edgert_dsp_plane2)((const int16_t *)plane, out + c, weights, s);
  }
}
