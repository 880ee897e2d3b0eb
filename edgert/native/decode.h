/* Greedy decoding with a decoder's compiled program (compiler/decoder/graph.py has its inputs). */
#ifndef EDGERT_DECODE_H
#define EDGERT_DECODE_H
#include "program.h"

#define FOLD 32 /* rows that are stored anew together */

typedef struct {
  session *s;
  int64_t *ids, *positions, *past, *rows; /* the program's inputs; [chunk] of ids and positions */
  float *logits;                          /* [vocab] */
  int64_t *seq, *want;                    /* in s->dims */
  int64_t *folded;                        /* input of caches that store old rows anew: how many are, before and in a run */
  int64_t window;                         /* rows that those keep as they are */
  int64_t vocab, chunk, context;          /* chunk: the most tokens of one run */
  int64_t least;                          /* rows of logits that a run may do with */
  int64_t position;                       /* tokens that the cache holds */
  int64_t cache_bytes, buffer_bytes;      /* of keys and values; of all that was made here */
} decoder;

/* Binds every input and output, with room for `context` tokens in the cache (0: for `prompt`
 * and `more`, or the most there can be) and runs of at most `chunk` tokens (0: the most there can be), and no more than
 * `prompt`. Leaves where the model was not made for that or memory does not suffice. */
decoder make_decoder(session *s, int64_t context, int64_t prompt, int64_t more, int64_t chunk);

/* Appends `count` tokens, which must fit the context: the likeliest next one, the lowest of several alike. */
int64_t append(decoder *d, const int64_t *ids, int64_t count);

#endif
