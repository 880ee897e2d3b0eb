/* Greedy decoding with a decoder's compiled program (compiler/decoder/graph.py has its inputs). */
#ifndef EDGERT_DECODE_H
#define EDGERT_DECODE_H
#include "program.h"

#define FOLD 32 /* rows that are stored anew together */
enum { MOST_GUESSES = 7 }; /* with the token before them 8: so many in a row get the bits that each alone gets */

typedef struct {
  session *s;
  int64_t *ids, *positions, *past, *rows; /* the program's inputs; [chunk] of ids and positions */
  void *result;                           /* float [guesses + 1, vocab], the logits; or int64 [guesses + 1] */
  int32_t tells;                          /* 1: the result is the likeliest tokens themselves */
  int64_t *seq, *want;                    /* in s->dims */
  int64_t *folded;                        /* input of caches that store old rows anew: how many are, before and in a run */
  int64_t window;                         /* rows that those keep as they are */
  int64_t vocab, chunk, context, guesses; /* chunk: the most tokens of one run; guesses: that `attempt` can take */
  int64_t least;                          /* rows of logits that a run may do with */
  int64_t position;                       /* tokens that the cache holds */
  int64_t cache_bytes, buffer_bytes;      /* of keys and values; of all that was made here */
} decoder;

/* Binds every input and output, with room for `context` tokens in the cache (0: for `prompt`
 * and `more`, or the most there can be) and runs of at most `chunk` tokens (0: the most there can be), and no more than
 * `prompt`, or of a token and `guesses`. Leaves where the model was not made for that or memory does not suffice. */
decoder make_decoder(session *s, int64_t context, int64_t prompt, int64_t more, int64_t chunk, int64_t guesses);

/* Appends `count` tokens, which must fit the context: the likeliest next one, the lowest of several alike. */
int64_t append(decoder *d, const int64_t *ids, int64_t count);

/* Runs a token and guesses of what follows, `count` in all, which must fit the context: the likeliest token after each.
 * Appends none of them: the caller counts those that hold into `position`. */
void attempt(decoder *d, const int64_t *ids, int64_t count, int64_t *next);

#endif
