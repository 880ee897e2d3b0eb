/* The inside of a stream: shared by stream.c (visits), stays.c, ring.c (readers), predict.c and lookup.c, chosen.c, experts.c (rows of tables). */
#ifndef EDGERT_STREAM_PARTS_H
#define EDGERT_STREAM_PARTS_H
#include <pthread.h>
#include <stdatomic.h>

#include "stream.h"

enum { PAGE = 4096, HUGE = 2 << 20, MOST_READERS = 16, MESSAGE = 256, GROUP = 1 << 20 };

typedef enum { CLAIMED, THERE, CHECKING, READY } ring_state; /* THERE: read, but nobody has checked it yet */

typedef struct {
  int64_t at, end; /* in the ring; the end counts on round after round */
  int32_t segment;
  ring_state state;
} ring_job;

typedef struct {
  int64_t step, begin, end, units, first, count; /* as edgert_visit, neighbours in memory joined */
  int64_t jobs;                                  /* of its pieces, how many come through the ring */
  int64_t before_ns, ns; /* of the latest run: what was computed before it, and by it, checking what it waits for included */
} stream_visit;

typedef struct {
  int64_t offset, bytes, least; /* in weights.bin; at least `least` of the bytes must be there */
  uint8_t *to;
} stream_range;

struct edgert_stream {
  edgert_layout layout;
  edgert_streaming plan;
  edgert_source *source;

  uint8_t *kept, *ring; /* pinned segments; the ring */
  int64_t kept_bytes;
  uint8_t **where;         /* [segments] in `kept`, or NULL */
  const uint8_t **bases;   /* [weights] */
  stream_visit *visits;    /* [visits] */
  int64_t visit_count, cursor; /* of the run under way: the next visit */
  int32_t *sequence;       /* [job_count] the segments that come through the ring in a run, in order */
  int64_t job_count;
  int64_t run_job;         /* number of the run's first job */

  double rate;             /* bytes a nanosecond while anything was read in the latest run, or 0 */
  int64_t mark_ns, after_ns, checked_ns; /* when the visit before ended; from the last one to a run's end; checks by who waited */
  int32_t timed;           /* 1: a run has ended */

  uint64_t *marks;         /* [segments] edgert_mix of each segment, once checked */
  _Atomic uint8_t *known;  /* [segments] 1: `marks` holds */

  /* The ring: jobs are numbered on and on; [released, next) are in flight or there, and none below
   * `unchecked` waits to be checked. Under `lock`. */
  pthread_mutex_t lock;
  pthread_cond_t ready, space;
  pthread_t readers[MOST_READERS];
  int32_t reader_count, busy; /* reads and checks under way */
  int32_t paused, failed;
  _Atomic int32_t stop;
  ring_job *jobs;                /* [slots] job n is jobs[n % slots] */
  int64_t slots, next, released, unchecked, head, tail;
  int64_t progress_ns;           /* when bytes last came */
  int32_t reading;               /* reads into the ring under way; of this run: how long there were any, bytes that came */
  int64_t reading_since, reading_ns, reading_bytes;
  edgert_stream_stats figures;
  char message[MESSAGE];

  struct row_table *tables; /* [lookup_count] */
  uint8_t *scratch;         /* a whole segment, for the first row of it */
  int64_t scratch_bytes;

  struct chosen_table *chosen; /* [lookup_count] */
  int64_t chosen_tables;       /* how many of them choose */
  uint8_t *staging;            /* chosen rows that were read, where they lie in their table */
  int64_t staging_bytes;
  stream_range *ranges; /* [rows] of chosen rows */
  const stream_range *reads; /* to read: [range_next, range_count) nobody has begun. With the counts under `lock` */
  int64_t range_count, range_next, range_done;

  struct expert_table *experts; /* [lookup_count] */
  int64_t expert_tables;        /* how many of them are */
  stream_range *expert_ranges;
  int64_t expert_range_count;
};

static inline int64_t pages(int64_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

/* Memory of whole pages, zeros; NULL when there is none. */
uint8_t *stream_memory(int64_t bytes);
void stream_release(void *at, int64_t bytes);

/* Keeps the first reason for which a run fails. */
void stream_fail(edgert_stream *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* stays.c. Whether each segment is to stay: the resident ones, and of the others so many bytes: large visits, the rest
 * spread evenly over a run, so that reading and computing alternate, but in groups: what is read is then long runs of the
 * file. Gives the bytes of all, and what is left of the plan's. */
int64_t stays_choose(edgert_stream *s, uint8_t *stays, int64_t *rest);

/* ring.c. Reads bytes [offset, offset + n) of weights.bin, n a multiple of a page; at least `least` of them must be
 * there. 0 when right. */
int32_t ring_read(edgert_stream *s, int64_t offset, uint8_t *to, int64_t n, int64_t least);
/* Checks a segment's bytes. 0 when right. */
int32_t ring_check(edgert_stream *s, int64_t segment, const uint8_t *bytes);
int32_t ring_start(edgert_stream *s);
/* Waits until the readers are idle, forgets all that is in flight, and, given `again`, sets them to the first job. */
void ring_reset(edgert_stream *s, int32_t again);
/* Ends the readers; 1 when one is in a read that does not end. */
int32_t ring_stop(edgert_stream *s);
/* Under the lock: waits for a change. 1 once nothing has come for the plan's time, nor been waited for since `start`. */
int32_t ring_await(edgert_stream *s, int64_t start);
/* Waits for job n: where it lies, or NULL when it failed. */
const uint8_t *ring_wait(edgert_stream *s, int64_t n);
/* Gives up the run's jobs below n, unread if nobody has begun. 0 when right. */
int32_t ring_skip(edgert_stream *s, int64_t n);
/* Jobs below n are done with. */
void ring_release_to(edgert_stream *s, int64_t n);

/* predict.c. Under the lock: so many reads more or fewer are under way, bytes have come. The times of a run's visit, which
 * was `begun`, had its bytes `there`, and is done. */
void predict_reading(edgert_stream *s, int32_t more, int64_t bytes);
void predict_begin(edgert_stream *s);
void predict_visit(edgert_stream *s, stream_visit *visit, int64_t begun, int64_t there, int64_t checking);

/* lookup.c */
int32_t lookup_open(edgert_stream *s);
void lookup_close(edgert_stream *s);
/* A segment came whole and right: remembers the marks of the rows in it. */
void lookup_learn(edgert_stream *s, int64_t segment, const uint8_t *bytes);
int32_t lookup_step(edgert_stream *s, edgert_ctx *ctx, const edgert_lookup *table, edgert_range run, void *with,
                    int64_t n);

/* chosen.c */
int32_t chosen_open(edgert_stream *s);
void chosen_close(edgert_stream *s);
/* Whether a segment is a part of a table of chosen rows. */
int32_t chosen_segment(const edgert_layout *l, int64_t segment);
/* Room for rows that stay, of so many bytes in all. 0 when right. */
int32_t chosen_fill(edgert_stream *s, int64_t bytes);
void chosen_drop(edgert_stream *s);
/* Under the lock: reads a range, where there is one that nobody has begun. 0 when there is none. */
int32_t chosen_fetch(edgert_stream *s);
/* Has the readers bring `count` ranges. 0 when right. */
int32_t chosen_read_all(edgert_stream *s, const stream_range *ranges, int64_t count);
/* The same of what is not counted as chosen, also where there are no readers. */
int32_t chosen_read_some(edgert_stream *s, const stream_range *ranges, int64_t count);
/* As ring_read, within the plan's time. */
int32_t chosen_read_one(edgert_stream *s, int64_t offset, uint8_t *to, int64_t n, int64_t least);
/* Has them read meanwhile; waits until that is done: 0 when right. */
void chosen_read_ahead(edgert_stream *s, const stream_range *ranges, int64_t count);
int32_t chosen_wait(edgert_stream *s);
/* How many of a step's n tasks have a row that it chose, and where those stand; -1 where they do not ascend. */
int64_t chosen_rows(edgert_stream *s, const edgert_ctx *ctx, const edgert_lookup *about, int64_t n, const int32_t **rows);
/* Counts rows that a step asked for, and those of them that were not in memory. */
void chosen_counted(edgert_stream *s, int64_t rows, int64_t missing);
int32_t chosen_step(edgert_stream *s, edgert_ctx *ctx, int64_t number, edgert_range run, void *with, int64_t n);

/* experts.c */
int32_t experts_open(edgert_stream *s);
void experts_close(edgert_stream *s);
/* Room for one row of each table and for more, of so many bytes in all. 0 when right. */
int32_t experts_fill(edgert_stream *s, int64_t bytes);
void experts_drop(edgert_stream *s);
/* What was to be read ahead may not have come. */
void experts_forget(edgert_stream *s);
int32_t experts_step(edgert_stream *s, edgert_ctx *ctx, int64_t number, edgert_range run, void *with, int64_t n);

#endif
