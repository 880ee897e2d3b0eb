/* Weights coded without loss (flashload/coding/planes.py tells the format and writes it). */
#ifndef EDGERT_CODING_H
#define EDGERT_CODING_H
#include <stdint.h>

enum { EDGERT_CODING_SLACK = 8 }; /* bytes behind a coded block that may be read, whatever they hold */

/* Decodes `size` bytes at `from` to exactly `n` bytes at `to`. 0 when right, 1 when they are damaged; never reads or
 * writes elsewhere. */
int32_t edgert_decode(const uint8_t *from, int64_t size, uint8_t *to, int64_t n);

#endif
