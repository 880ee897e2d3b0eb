/* Weights read from flash while the model runs, through a ring of memory, inside a budget.
 *
 * weights.bin consists of segments. The model's steps visit them in one order, run after run; a visit is a part of one
 * step (units [begin, end) of its tasks) with the segments it reads. Some segments stay in memory (pinned), reader
 * threads bring the others into the ring ahead of the visits. LRU would drop each before its next turn.
 *
 * The tables below and the source say nothing of threads: a microcontroller can serve the same visits from external
 * flash with two buffers, filling one while the other is in use. */
#ifndef EDGERT_STREAM_H
#define EDGERT_STREAM_H
#include "edgert.h"
#include "source.h"

typedef struct edgert_stream edgert_stream;

typedef struct {
  int64_t offset, size; /* in weights.bin; offset is a multiple of 4096 */
  int64_t resident;     /* 1: in memory whatever the budget */
  uint8_t sha256[32];
} edgert_segment;

/* `task`s [n * begin / units, n * end / units) of a step, with segments pieces[first .. first + count). */
typedef struct {
  int64_t step, begin, end, units;
  int64_t first, count;
} edgert_visit;

typedef struct {
  int64_t segment, weight; /* of which weight it is a part: the index into ctx->bases */
} edgert_piece;

/* A step whose task i reads only row indices[i] of a table: `rows` of them lie together in `bytes` bytes. */
typedef struct {
  int64_t step, weight, offset; /* the table's index into ctx->bases and its place in weights.bin */
  int64_t size;                 /* bytes of the table */
  int64_t extent, rows, bytes;  /* rows of the table; an index may count from the end */
  int64_t io, at;               /* where the indices are: io[io], or, io being -1, byte `at` of the arena */
  int64_t item_bytes;           /* 4 or 8: signed integers */
  int64_t chosen, used;         /* chosen: the indices, of 4 bytes, ascend and end with `extent`; the step's first task is
                                 * always run. Of a row's `bytes`, `used` are kept in memory */
  int64_t ahead;                /* of experts: the byte of the arena where those are that the next such table will likely
                                 * be asked for, or -1 */
  int64_t ends;                 /* of rows that are not chosen: 1: the indices end with `extent`. Several tables of one
                                 * step, of the same indices, stand one after the other */
} edgert_lookup;

typedef struct {
  int64_t weights, segment_count, visit_count, piece_count, lookup_count; /* weights: length of ctx->bases */
  const edgert_segment *segments;
  const edgert_visit *visits; /* in the order of a run */
  const edgert_piece *pieces;
  const edgert_lookup *lookups;
} edgert_layout;

/* What the planner decides (flashload/plan.py). */
typedef struct {
  int64_t start;        /* of weights.bin in the source */
  int64_t pinned_bytes; /* at most so much of what is not resident stays in memory, spread evenly over a run */
  int64_t ring_bytes;   /* at least the largest visit */
  int64_t block_bytes;  /* neighbours are read together up to this size */
  int64_t threads;      /* reads at once, 1 to 16 */
  int64_t timeout_ms;   /* after so long without a byte a run fails */
  int64_t gap_bytes;    /* chosen rows so near to each other are read at once, with what lies between */
} edgert_streaming;

typedef struct {
  int64_t pinned_bytes, ring_bytes; /* as made */
  int64_t read_bytes, reads;        /* since opening; pinned and resident ones among them */
  int64_t wait_ns;                  /* that runs waited for segments */
  int64_t lookups, lookup_reads;    /* rows looked up, and those that were not at hand */
  int64_t chosen_rows, chosen_missing; /* rows of tables of which a step chooses, and those that were not in memory */
  int64_t chosen_bytes, chosen_reads;  /* read for them, but for the first time, when whole segments are */
} edgert_stream_stats;

/* Visits of more than this stay whole where there is room for all of them: the ring can then be small. */
enum { EDGERT_LARGE = 1 << 20 };

/* Bytes of a visit's segments that are not always resident, in whole pages, and of the largest of them. */
int64_t edgert_visit_bytes(const edgert_layout *layout, int64_t visit, int64_t *largest);

/* Of all visits that are large. */
int64_t edgert_large_bytes(const edgert_layout *layout);

/* Reads and checks what stays in memory and starts the readers. Takes `source`, also when it fails. Layout and plan are
 * not used after the call but for layout's tables, which must stay. NULL on failure, with one line in `message`. */
edgert_stream *edgert_stream_open(const edgert_layout *layout, const edgert_streaming *plan, edgert_source *source,
                                  char *message, int64_t message_bytes);

/* Runs tasks [begin, end) of the step at hand, on as many threads as the runtime has. */
typedef void (*edgert_range)(void *with, int64_t begin, int64_t end);

/* Starts a run of the model's code: sets ctx->bases, and ctx->weights for what is always resident and hence at the
 * beginning of weights.bin. At most one run at a time. */
void edgert_stream_begin(edgert_stream *stream, edgert_ctx *ctx);

/* Runs the n tasks of a step in parts, each when its bytes are there. 0 when right. */
int32_t edgert_stream_step(edgert_stream *stream, edgert_ctx *ctx, int64_t step, edgert_range run, void *with,
                           int64_t n);

/* Ends a run that went right. */
void edgert_stream_end(edgert_stream *stream);

/* Nanoseconds that a run like the latest one will take, by a model of the queue (predict.c); 0: nobody knows. */
int64_t edgert_stream_predicted(const edgert_stream *stream);

/* What went wrong in the last run: which segment, where in the file, why. Empty when nothing did. */
const char *edgert_stream_error(const edgert_stream *stream);

edgert_stream_stats edgert_stream_figures(const edgert_stream *stream);

/* Whether rows that a step chooses are so large that each stays by itself (experts). */
int32_t experts_are(const edgert_lookup *about);

/* The first of the lookups that read the same rows: they share what they read. */
int64_t lookup_first(const edgert_layout *layout, int64_t lookup);

/* Other sizes from now on; between runs. 0 when right; otherwise the stream can only be closed. */
int32_t edgert_stream_resize(edgert_stream *stream, int64_t pinned_bytes, int64_t ring_bytes);

/* Stops and joins the readers, gives all memory back. */
void edgert_stream_close(edgert_stream *stream);

#endif
