/* The standalone program's parts: its command line, its inputs and outputs, what it does with them. */
#ifndef EDGERT_PROGRAM_H
#define EDGERT_PROGRAM_H
#include <stdnoreturn.h>

#include "model.h"
#include "npy.h"
#include "runtime.h"

/* The exit codes of every edgert command. */
enum { RIGHT = 0, FAILED = 1, WRONG_USE = 2, DOES_NOT_FIT = 4 };

typedef struct {
  const char **inputs; /* [input_count] file of each input, NULL when not given */
  const char *output;  /* folder for the outputs, or NULL */
  int64_t threads, runs;
  int64_t dram; /* bytes for the whole process; 0: no budget */
  int32_t profile, verify, json;
} options;

/* A loaded model, ready to run. */
typedef struct {
  const edgert_model *model;
  edgert_rt *rt;
  uint8_t *arena;
  const uint8_t *weights;
  edgert_stream *stream; /* where weights come from instead, or NULL */
  void **io;     /* [input_count + output_count] */
  int64_t *dims; /* [dim_slots] */
  int64_t *profile_ns; /* [step_count], or NULL */
} session;

/* fail.c: says one line on stderr and leaves with `code`. */
noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

options parse_options(int count, char **words, const edgert_model *model);
/* The value of an option, or leaves: a number from 1 to `most`, an amount of memory in bytes. */
int64_t option_number(const char *option, const char *text, int64_t most);
int64_t option_amount(const char *option, const char *text);

/* cpu.c: leaves unless this processor has every feature in the list; cores this process may use. */
void check_features(const char *const *features);
int64_t core_count(void);

/* memory.c: leaves when the arena, inputs and outputs, or `need` bytes, exceed the memory now free; zeros from a page's start; the weights at the program's end, mapped; a whole file, mapped. */
void check_memory(const edgert_model *model);
void check_free(long long need, const char *what);
void *anonymous(int64_t bytes, const char *what);
const uint8_t *map_weights(const edgert_model *model);
#define OWN_FILE "/proc/self/exe"
int64_t weights_start(const edgert_model *model); /* where in its own file they are; fills in segments' SHA-256 */
const uint8_t *map_file(const char *path, size_t *size);

/* weights.c: maps the weights, or, given a budget for the whole process, reads what has room and the rest as the model
 * runs. later: bytes that were made but not touched yet (the arena, outputs, a cache). Leaves when that does not fit. */
void open_weights(session *s, int64_t dram, int64_t later);
void print_streaming(const session *s);

/* tensors.c: binds input `index` to .npy bytes (from `source`, for messages), or leaves with what does not fit. */
void bind_input(session *s, int64_t index, const uint8_t *file, size_t size, const char *source, const char **owner);
/* The shape of an output after a run, or leaves. Gives the number of elements. */
int64_t output_shape(const session *s, const edgert_tensor *tensor, int64_t *shape);
void write_outputs(const session *s, const char *folder);
/* Compares the outputs with the recorded ones: prints a line each, gives 1 when all are within the tolerance. */
int compare_golden(const session *s);

/* timing.c: runs once, or leaves naming the step that failed; prints times. */
void run_once(session *s);
void time_runs(session *s, const options *given);
void print_profile(session *s);

#endif
