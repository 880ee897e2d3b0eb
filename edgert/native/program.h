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
  int32_t profile, verify, json, stdio; /* stdio: inputs from standard input, outputs to standard output */
} options;

typedef struct session session;

/* Where a model's weights are: at the end of the program's own file (own.c), or in an artifact (opened.c). */
typedef struct {
  const uint8_t *(*map)(const session *s);    /* all of them, or leaves */
  edgert_source *(*source)(const session *s); /* to read them from while the model runs; NULL with a reason in errno */
  const char *path;
  int64_t start; /* where they begin in the source */
  int64_t scratch; /* bytes that who reads takes to decode them */
  void *with;
} weight_place;

/* A loaded model, ready to run. */
struct session {
  const edgert_model *model;
  edgert_entry entry;
  weight_place place;
  edgert_rt *rt;
  uint8_t *arena;
  const uint8_t *weights;
  edgert_stream *stream; /* where weights come from instead, or NULL */
  void **io;     /* [input_count + output_count] */
  int64_t *dims; /* [dim_slots] */
  int64_t *profile_ns; /* [step_count], or NULL */
  int64_t dram;        /* the budget where no option gives one, or 0 */
  int64_t runs, predicted_ns, predictions; /* of a run each, together; how many */
};

/* What messages begin with. */
extern const char *program_name;

/* fail.c: says one line on stderr and leaves with `code`. */
noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

options parse_options(int count, char **words, const edgert_model *model);

/* main.c, decode_main.c: the program of a model whose entry and place are known; words[0] is its name. Give its exit code. */
int run_tensors(session *s, int count, char **words);
int run_decoder(session *s, int count, char **words);
/* The value of an option, or leaves: a number from 1 to `most`, an amount of memory in bytes. */
int64_t option_number(const char *option, const char *text, int64_t most);
int64_t option_amount(const char *option, const char *text);

/* cpu.c: leaves unless this processor has every feature in the list; the features it has, as JSON texts; its
 * architecture, as in a target's triple; cores this process may use. */
void check_features(const char *const *features);
const char *missing_feature(const char *const *features); /* or NULL */
void print_features(void);
const char *machine_name(void);
int64_t core_count(void);

/* memory.c: leaves when the arena, inputs and outputs, or `need` bytes, exceed the memory now free; zeros from a page's start; a whole file, mapped. */
void check_memory(const edgert_model *model);
long long free_memory(void); /* 0 where the kernel does not say */
void check_free(long long need, const char *what);
void *anonymous(int64_t bytes, const char *what);
typedef struct mapping {
  struct mapping *next;
  void *at;
  size_t bytes;
} mapping;
extern _Thread_local mapping **keeping; /* where all that is mapped is noted, to be given back; NULL: nowhere */
const uint8_t *map_file(const char *path, size_t *size);

/* weights.c: maps the weights, or, given a budget for the whole process, reads what has room and the rest as the model
 * runs. later: bytes that were made but not touched yet (the arena, outputs, a cache). Leaves when that does not fit. */
void open_weights(session *s, int64_t dram, int64_t later);
int64_t arena_touched(const session *s); /* bytes of the arena that runs use with the first dimension as it is now */
/* Predicts from the run that was just made how long others like it take, the first few times; what that came to, in
 * seconds, or 0 where nothing is streamed; prints what was read, and that beside what a run took. */
void predict_run(session *s);
double predicted_seconds(const session *s);
void print_streaming(const session *s, double seconds);

/* tensors.c: binds input `index` to .npy bytes (from `source`, for messages), or leaves with what does not fit. */
void bind_input(session *s, int64_t index, const uint8_t *file, size_t size, const char *source, const char **owner);
/* generated.c: `zeros`, `random` or a number in place of a file, of the shapes that other inputs leave, else the largest. */
int is_generated(const char *source);
void generate_input(session *s, int64_t index, const char *source);
/* frames.c: .npy files behind their sizes (8 bytes, little endian), in the model's order. */
void read_frames(session *s, const char **owner);
void write_frames(const session *s);
/* The shape of an output after a run, or leaves. Gives the number of elements. */
int64_t output_shape(const session *s, const edgert_tensor *tensor, int64_t *shape);
void write_outputs(const session *s, const char *folder);
/* Compares the outputs with the recorded ones: prints a line each, gives 1 when all are within the tolerance. */
int compare_golden(const session *s);

/* timing.c: runs once, or leaves naming the step that failed; prints times. */
void run_once(session *s);
double time_runs(session *s, const options *given); /* the median in seconds */
void print_profile(session *s, int64_t runs); /* each step's best time; 0 runs are 1 */

#endif
