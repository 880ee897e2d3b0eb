/* Artifacts in an application of one's own. `edgert runner --emit lib -o DIR` writes this header and the library.
 *
 * A model is used by one thread at a time; open it again for another. Nothing is allocated between open and close. */
#ifndef EDGERT_APP_H
#define EDGERT_APP_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGERT_EXPORT __attribute__((visibility("default")))
enum { EDGERT_MOST_RANK = 32, EDGERT_MESSAGE = 512 };

/* What calls give, and what every edgert command exits with. */
enum { EDGERT_RIGHT = 0, EDGERT_FAILED = 1, EDGERT_WRONG_USE = 2, EDGERT_DOES_NOT_FIT = 4 };

typedef struct edgert_model edgert_model;

typedef struct {
  int32_t threads; /* 0: the cores this process may use */
  int64_t dram;    /* bytes for the whole process: weights beyond it are read while the model runs; 0: as compiled for */
} edgert_options;

/* An input or output of the model. Texts live as long as the model. */
typedef struct {
  const char *name, *type; /* type: numpy's description of an element, such as <f4 */
  int32_t item_bytes, rank;
  int64_t shape[EDGERT_MOST_RANK]; /* the largest */
  int64_t bytes;                   /* the room it takes at its largest */
} edgert_port;

typedef struct {
  const char *name;
  int32_t input_count, output_count;
  int64_t arena_bytes, weights_bytes;
} edgert_facts;

/* An array in C order. shape: given for inputs, filled in for outputs. */
typedef struct {
  void *data;
  int64_t bytes; /* that data has room for */
  int64_t shape[EDGERT_MOST_RANK];
} edgert_array;

/* Checks the artifact at `path` and makes it ready to run. EDGERT_RIGHT with the model in *model, or a reason with one
 * line in `message` (EDGERT_MESSAGE bytes, or NULL) and nothing left behind. options: NULL for none. */
EDGERT_EXPORT int edgert_open(const char *path, const edgert_options *options, edgert_model **model, char *message);

EDGERT_EXPORT edgert_facts edgert_info(const edgert_model *model);
EDGERT_EXPORT edgert_port edgert_input(const edgert_model *model, int32_t index);
EDGERT_EXPORT edgert_port edgert_output(const edgert_model *model, int32_t index);

/* Runs the model on all inputs and outputs, in its order. The same answers, to the bit, as from the other runners. */
EDGERT_EXPORT int edgert_run(edgert_model *model, const edgert_array *inputs, edgert_array *outputs, char *message);

EDGERT_EXPORT void edgert_close(edgert_model *model);

#ifdef __cplusplus
}
#endif
#endif
