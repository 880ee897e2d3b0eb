/* Depthwise 3 x 3 convolutions of bytes on Cortex-M with DSP instructions: a channel at a time is widened into lines of
 * 16-bit numbers with pads around, which depthwise_dsp.S reads two at once. Results may lie over the input: of another
 * channel they overwrite nothing, of their own it has been read. */
#include <stdint.h>

typedef struct {
  int32_t magic, out_step, outputs, out_lines, out_line_step;  /* these seven are read by depthwise_dsp.S */
  int32_t plane_step, plane_line;                              /* bytes to what the next outputs read, and of a line */
  int32_t channels, stride, start, plane_words, pads;          /* the first number that is no pad; two pads */
  int32_t lines, numbers, step, next, next_plane;              /* what is read of the image, and bytes to further lines;
                                                                  these five are read by depthwise_dsp.S, too */
} edgert_dsp_plane_shape;

void edgert_dsp_plane1(const int16_t *, int8_t *, const int32_t *, const edgert_dsp_plane_shape *);
void edgert_dsp_plane2(const int16_t *, int8_t *, const int32_t *, const edgert_dsp_plane_shape *);

/* One channel into the plane. */
void edgert_dsp_channel(const int8_t *image, int16_t *to, const int32_t *lines);

void edgert_dsp_depthwise(const int8_t *image, const int32_t *weights, int8_t *out, uint32_t *plane,
                          const edgert_dsp_plane_shape *s) {
  for (int32_t i = 0; i < s->plane_words; i++) plane[i] = (uint32_t)s->pads;
  for (int32_t c = 0; c < s->channels; c++, weights += 6) {
    edgert_dsp_channel(image + c, (int16_t *)plane + s->start, &s->lines);
    (s->stride == 1 ? edgert_dsp_plane1 : edgert_dsp_plane2)((const int16_t *)plane, out + c, weights, s);
  }
}
