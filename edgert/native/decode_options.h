#ifndef EDGERT_DECODE_OPTIONS_H
#define EDGERT_DECODE_OPTIONS_H
#include "program.h"

typedef struct {
  int64_t *ids, count;
} id_list;

typedef struct {
  id_list prompt, ends;
  int64_t max_tokens, context, chunk, threads; /* context, chunk: 0 when not given */
  int64_t guesses;                             /* the most tokens that are guessed and checked in one run */
  int64_t dram;                                /* bytes for the whole process; 0: no budget */
  int32_t json;
} decode_options;

decode_options parse_decode_options(int count, char **words, const edgert_model *model);

#endif
