/* A model's manifest as C tables: generated for each standalone program (edgert/exe.py), read by main.c. */
#ifndef EDGERT_MODEL_H
#define EDGERT_MODEL_H
#include "edgert.h"
#include "stream.h"

typedef struct {
  int32_t slot;   /* the dim slot of a symbolic extent, or -1 */
  int64_t extent; /* the extent, or the most a symbolic one can be */
} edgert_axis;

typedef struct {
  const char *name;  /* as in the model */
  const char *file;  /* the name as a file's name, without .npy */
  const char *descr; /* numpy's description of an element, such as <f4 */
  char kind;         /* f: IEEE float, i: signed, u: unsigned or bool, c: complex, r: raw bits of another float */
  int32_t item_bytes;
  int32_t rank;
  const edgert_axis *shape; /* [rank] */
  int64_t bytes;            /* the room it takes at its largest */
  const uint8_t *golden;    /* a recorded .npy, or NULL */
  const uint8_t *golden_end;
} edgert_tensor;

typedef struct {
  const char *name;
  int64_t min, max;
} edgert_dim;

typedef struct {
  const char *name, *op;
} edgert_step;

typedef struct {
  int64_t most, second, bytes; /* the first dimension and the second, if any, being at most that, bytes of the arena touched */
} edgert_arena_use;

typedef struct {
  const char *name;
  const char *const *features; /* names of /proc/cpuinfo's flags, NULL at the end */
  int64_t arena_bytes, weights_bytes, dim_count, dim_slots, input_count, output_count, step_count;
  double tolerance; /* of the golden outputs' range */
  const edgert_dim *dims;
  const edgert_tensor *inputs, *outputs;
  const edgert_step *steps;
  const edgert_layout *layout; /* of weights that can be read while it runs, or NULL */
  edgert_segment *segments;    /* layout's, whose SHA-256 are filled in at the start, or NULL */
  int64_t segment_count;
  const edgert_arena_use *arena_uses; /* ascending; may be none */
  int64_t arena_use_count;
  const int64_t *ends; /* of a language model: the tokens that end a text */
  int64_t end_count;
  const char *target; /* that its code is for */
  int64_t vocab;      /* of a language model: how many tokens there are */
} edgert_model;

extern const edgert_model edgert_the_model;

/* The last bytes of the program's file. Before lie the SHA-256 of each segment of the weights, and before those the
 * weights, from a page's start. Little endian. */
typedef struct {
  char magic[8]; /* EDGERTW1 */
  uint64_t offset, bytes;
} edgert_trailer;

#endif
