/* What may come next, by what followed the same few tokens last time (Saxena 2023, "Prompt Lookup Decoding"). */
#include "guess.h"

#include <string.h>

enum { LONGEST = 6, ALONE = 2 }; /* tokens that are looked for; a single one that agrees foretells little */

int64_t guess(const int64_t *text, int64_t count, int64_t *to, int64_t most) {
  for (int64_t length = count - 1 < LONGEST ? count - 1 : LONGEST; length > 0; length--) {
    const int64_t *last = text + count - length;
    if (length == 1 && most > ALONE) most = ALONE;
    for (int64_t at = count - 1; at >= length; at--) {
      if (memcmp(text + at - length, last, (size_t)length * sizeof *text)) continue;
      if (most > count - at) most = count - at;
      memcpy(to, text + at, (size_t)most * sizeof *to);
      return most;
    }
  }
  return 0;
}
