/* A source no faster than another device, to try out on this machine what a model would do there. */
#ifndef EDGERT_THROTTLE_H
#define EDGERT_THROTTLE_H
#include "source.h"

/* Reads of `block` bytes or more with `depth` or more under way move `rate` bytes a second, together. */
typedef struct {
  int64_t block, depth, rate;
} edgert_speed;

/* `from`, slowed down: a read takes as long as the device of these speeds (count of them, at least one) would take.
 * Takes `from`; NULL when there is no memory. */
edgert_source *edgert_source_throttled(edgert_source *from, const edgert_speed *speeds, int64_t count);

#endif
