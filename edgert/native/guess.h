#ifndef EDGERT_GUESS_H
#define EDGERT_GUESS_H
#include <stdint.h>

/* Guesses at most `most` tokens that follow the `count` of a text. Gives how many: none where its end is new. */
int64_t guess(const int64_t *text, int64_t count, int64_t *to, int64_t most);

#endif
