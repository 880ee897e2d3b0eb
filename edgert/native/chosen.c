/* Tables of which a step reads the rows that it chose: neurons of a feed-forward layer. Those that are missing are read
 * together, neighbours at once; the ones used most of late stay, as far as there is room. */
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "pool.h"
#include "stream_parts.h"

enum { DECAY = 3, USED = 8191, LOOKED_AT = 32 };

typedef struct chosen_table {
  const edgert_lookup *about;
  int64_t room, held; /* rows that may stay, rows that do; `hand`: where one was looked for last */
  int64_t hand;
  uint8_t *rows;   /* [room][about->used] */
  int32_t *owner;  /* [room] the row there */
  int32_t *slot;   /* [extent] -1: not in memory */
  uint16_t *score; /* [extent] how often used of late */
  uint64_t *marks; /* [extent] edgert_mix of the row */
  uint8_t *known;  /* [extent] 1: `marks` holds */
} chosen_table;

int32_t chosen_segment(const edgert_layout *l, int64_t segment) {
  for (int64_t i = 0; i < l->lookup_count; i++) {
    int64_t at = l->segments[segment].offset - l->lookups[i].offset;
    if (l->lookups[i].chosen && at >= 0 && at < l->lookups[i].size) return 1;
  }
  return 0;
}

int32_t chosen_open(edgert_stream *s) {
  const edgert_layout *l = &s->layout;
  int64_t most = 0, rows = 0;
  s->chosen = calloc((size_t)l->lookup_count + 1, sizeof *s->chosen);
  int32_t right = s->chosen != NULL;
  for (int64_t i = 0; right && i < l->lookup_count; i++) {
    chosen_table *t = &s->chosen[i];
    t->about = &l->lookups[i];
    if (!t->about->chosen || experts_are(t->about)) continue;
    size_t extent = (size_t)t->about->extent;
    s->chosen_tables++;
    t->slot = malloc(extent * sizeof *t->slot);
    t->score = calloc(extent, sizeof *t->score);
    t->marks = calloc(extent, sizeof *t->marks);
    t->known = calloc(extent, 1);
    right = t->slot && t->score && t->marks && t->known;
    most = t->about->size > most ? t->about->size : most;
    rows = t->about->extent > rows ? t->about->extent : rows;
  }
  if (right && s->chosen_tables) {
    s->staging = stream_memory(pages(most) + PAGE);
    s->staging_bytes = pages(most) + PAGE;
    s->ranges = malloc((size_t)rows * sizeof *s->ranges);
    right = s->staging && s->ranges;
  }
  return right ? 0 : (stream_fail(s, "no memory for chosen rows"), 1);
}

void chosen_drop(edgert_stream *s) {
  for (int64_t i = 0; s->chosen && i < s->layout.lookup_count; i++) {
    chosen_table *t = &s->chosen[i];
    if (t->rows) stream_release(t->rows, t->room * t->about->used);
    free(t->owner);
    t->rows = NULL;
    t->owner = NULL;
  }
}

int32_t chosen_fill(edgert_stream *s, int64_t bytes) {
  for (int64_t i = 0; s->chosen_tables && i < s->layout.lookup_count; i++) {
    chosen_table *t = &s->chosen[i];
    if (!t->slot) continue;
    int64_t room = (bytes / s->chosen_tables) / (t->about->used + (int64_t)sizeof *t->owner);
    t->room = room < t->about->extent ? room : t->about->extent;
    t->held = t->hand = 0;
    memset(t->slot, -1, (size_t)t->about->extent * sizeof *t->slot);
    t->rows = stream_memory(t->room * t->about->used);
    t->owner = malloc((size_t)(t->room + 1) * sizeof *t->owner);
    if (!t->rows || !t->owner) return stream_fail(s, "no memory for chosen rows"), 1;
    s->figures.pinned_bytes += t->room * t->about->used;
  }
  return 0;
}

void chosen_close(edgert_stream *s) {
  chosen_drop(s);
  for (int64_t i = 0; s->chosen && i < s->layout.lookup_count; i++) {
    free(s->chosen[i].slot);
    free(s->chosen[i].score);
    free(s->chosen[i].marks);
    free(s->chosen[i].known);
  }
  free(s->chosen);
  free(s->ranges);
  stream_release(s->staging, s->staging_bytes);
}

int32_t chosen_fetch(edgert_stream *s) {
  if (s->paused || s->failed || s->range_next >= s->range_count) return 0;
  stream_range range = s->reads[s->range_next++];
  s->busy++;
  pthread_mutex_unlock(&s->lock);
  int32_t wrong = ring_read(s, range.offset, range.to, range.bytes, range.least);
  pthread_mutex_lock(&s->lock);
  s->figures.read_bytes += range.bytes;
  s->figures.reads++;
  s->range_done++;
  s->progress_ns = edgert_now_ns();
  s->busy--;
  pthread_cond_broadcast(&s->ready);
  return wrong ? -1 : 1;
}

/* Under the lock: waits for the reads under way. 0 when right; otherwise some may not have ended. */
static int32_t finish_reads(edgert_stream *s) {
  int64_t start = edgert_now_ns();
  while (s->range_done < s->range_count && !s->failed) {
    if (!ring_await(s, start)) continue;
    int64_t at = s->plan.start + s->reads[0].offset;
    pthread_mutex_unlock(&s->lock);
    stream_fail(s, "weights at byte %lld of the file did not come within %.1f s", (long long)at, s->plan.timeout_ms / 1e3);
    pthread_mutex_lock(&s->lock);
  }
  s->figures.wait_ns += edgert_now_ns() - start;
  if (s->failed) return 1;
  s->range_count = s->range_next = s->range_done = 0;
  return 0;
}

static void begin_reads(edgert_stream *s, const stream_range *ranges, int64_t count) {
  s->reads = ranges;
  s->range_count = count;
  s->range_next = s->range_done = 0;
  pthread_cond_broadcast(&s->space);
}

static void count_reads(edgert_stream *s, const stream_range *ranges, int64_t count) {
  for (int64_t i = 0; i < count; i++) s->figures.chosen_bytes += ranges[i].bytes;
  s->figures.chosen_reads += count;
}

int32_t chosen_wait(edgert_stream *s) {
  pthread_mutex_lock(&s->lock);
  int32_t wrong = finish_reads(s);
  pthread_mutex_unlock(&s->lock);
  return wrong;
}

void chosen_read_ahead(edgert_stream *s, const stream_range *ranges, int64_t count) {
  pthread_mutex_lock(&s->lock);
  count_reads(s, ranges, count);
  begin_reads(s, ranges, count);
  pthread_mutex_unlock(&s->lock);
}

int32_t chosen_read_all(edgert_stream *s, const stream_range *ranges, int64_t count) {
  int32_t wrong = chosen_wait(s);
  if (wrong) return wrong;
  chosen_read_ahead(s, ranges, count);
  return chosen_wait(s);
}

int32_t chosen_read_some(edgert_stream *s, const stream_range *ranges, int64_t count) {
  pthread_mutex_lock(&s->lock);
  int32_t wrong = finish_reads(s);
  if (!wrong) {
    begin_reads(s, ranges, count);
    while (!s->reader_count && chosen_fetch(s) > 0) continue; /* all else stays in memory: nobody but us reads */
    wrong = finish_reads(s);
  }
  pthread_mutex_unlock(&s->lock);
  return wrong;
}

int32_t chosen_read_one(edgert_stream *s, int64_t offset, uint8_t *to, int64_t n, int64_t least) {
  stream_range range = {offset, n, least, to};
  return chosen_read_some(s, &range, 1);
}

int64_t chosen_rows(edgert_stream *s, const edgert_ctx *ctx, const edgert_lookup *about, int64_t n, const int32_t **rows) {
  const int32_t *row = *rows = (const int32_t *)(about->io >= 0 ? ctx->io[about->io] : ctx->arena + about->at);
  int64_t count = 0;
  while (count < n && row[count] < about->extent) {
    if (row[count] < (count ? row[count - 1] + 1 : 0))
      return stream_fail(s, "row %d of a table of %lld comes out of turn", row[count], (long long)about->extent), -1;
    count++;
  }
  return count;
}

void chosen_counted(edgert_stream *s, int64_t rows, int64_t missing) {
  pthread_mutex_lock(&s->lock);
  s->figures.chosen_rows += rows;
  s->figures.chosen_missing += missing;
  pthread_mutex_unlock(&s->lock);
}

/* Where byte `offset` of weights.bin stands when it is read for this table. */
static uint8_t *staged(const edgert_stream *s, const chosen_table *t, int64_t offset) {
  return s->staging + (offset - t->about->offset / PAGE * PAGE);
}

/* The segments of rows whose marks are not known yet are read whole: those have a SHA-256. 0 when right. */
static int32_t learn(edgert_stream *s, chosen_table *t, const int32_t *rows, int64_t count) {
  const edgert_layout *l = &s->layout;
  for (int64_t i = 0, at = 0; i < count; i++) {
    if (t->known[rows[i]]) continue;
    int64_t begin = t->about->offset + rows[i] * t->about->bytes;
    while (at < l->segment_count && l->segments[at].offset + l->segments[at].size <= begin) at++;
    const edgert_segment *about = &l->segments[at];
    if (at == l->segment_count || begin < about->offset || begin + t->about->used > about->offset + about->size)
      return stream_fail(s, "row %d at byte %lld of the weights crosses a segment's end", rows[i], (long long)begin), 1;
    uint8_t *to = staged(s, t, about->offset);
    if (chosen_read_one(s, about->offset, to, pages(about->size), about->size) || ring_check(s, at, to)) return 1;
    for (int64_t r = (about->offset - t->about->offset) / t->about->bytes; r < t->about->extent; r++) {
      int64_t place = t->about->offset + r * t->about->bytes;
      if (place + t->about->used > about->offset + about->size) break;
      t->marks[r] = edgert_mix(staged(s, t, place), t->about->used);
      t->known[r] = 2; /* and there, for now */
    }
  }
  return 0;
}

/* Brings the rows that are not in memory to where `staged` says. 0 when right. */
static int32_t bring(edgert_stream *s, chosen_table *t, const int32_t *rows, int64_t count) {
  int64_t align = s->source->align, most = s->plan.block_bytes, missing = 0, ranges = 0;
  for (int64_t i = 0; i < count; i++)
    if (t->slot[rows[i]] < 0 && !t->known[rows[i]] && learn(s, t, rows + i, count - i)) return 1;
  for (int64_t i = 0; i < count; i++) {
    if (t->slot[rows[i]] >= 0) continue;
    missing++;
    if (t->known[rows[i]] == 2) continue;
    int64_t begin = t->about->offset + rows[i] * t->about->bytes, least = begin + t->about->used;
    int64_t first = begin / align * align, end = (least + align - 1) / align * align;
    stream_range *last = ranges ? &s->ranges[ranges - 1] : NULL;
    if (last && first - (last->offset + last->bytes) <= s->plan.gap_bytes && end - last->offset <= most) {
      last->bytes = end > last->offset + last->bytes ? end - last->offset : last->bytes;
      last->least = least - last->offset;
    } else s->ranges[ranges++] = (stream_range){first, end - first, least - first, staged(s, t, first)};
  }
  if (ranges && chosen_read_all(s, s->ranges, ranges)) return 1;
  for (int64_t i = 0; i < count; i++) {
    int64_t begin = t->about->offset + rows[i] * t->about->bytes;
    if (t->slot[rows[i]] < 0 && edgert_mix(staged(s, t, begin), t->about->used) != t->marks[rows[i]])
      return stream_fail(s, "row %d of the weights, at byte %lld of the file, is damaged", rows[i],
                         (long long)(s->plan.start + begin)), 1;
  }
  chosen_counted(s, count, missing);
  return 0;
}

/* Keeps a row that was read: in a free place, or in that of one of the next few that was used less of late. */
static void keep(const edgert_stream *s, chosen_table *t, int32_t row) {
  int64_t place = t->held;
  if (!t->room) return;
  if (t->held < t->room) t->held++;
  else {
    int64_t least = -1;
    for (int i = 0; i < LOOKED_AT; i++, t->hand = (t->hand + 1) % t->room)
      if (t->score[t->owner[t->hand]] < (least < 0 ? t->score[row] : t->score[t->owner[least]])) least = t->hand;
    if (least < 0) return;
    t->slot[t->owner[least]] = -1;
    place = least;
  }
  t->owner[place] = row;
  t->slot[row] = (int32_t)place;
  memcpy(t->rows + place * t->about->used, staged(s, t, t->about->offset + row * t->about->bytes), (size_t)t->about->used);
}

int32_t chosen_step(edgert_stream *s, edgert_ctx *ctx, int64_t number, edgert_range run, void *with, int64_t n) {
  chosen_table *t = &s->chosen[number];
  const edgert_lookup *about = t->about;
  const int32_t *rows;
  int64_t count = chosen_rows(s, ctx, about, n, &rows);
  if (count < 0) return 1;
  if (bring(s, t, rows, count)) return 1;
  for (int64_t i = 0; i < count || i == 0; i++) { /* the first task also prepares the result */
    int64_t row = count ? rows[i] : 0, offset = about->offset + row * about->bytes;
    const uint8_t *at = t->slot[row] >= 0 ? t->rows + t->slot[row] * about->used : staged(s, t, offset);
    s->bases[about->weight] = at - offset;
    run(with, i, i + 1);
  }
  for (int64_t i = 0; i < about->extent; i++) {
    t->score[i] = (uint16_t)(t->score[i] - (t->score[i] >> DECAY));
    t->known[i] = t->known[i] != 0;
  }
  for (int64_t i = 0; i < count; i++) t->score[rows[i]] = (uint16_t)(t->score[rows[i]] + USED);
  for (int64_t i = 0; i < count; i++)
    if (t->slot[rows[i]] < 0) keep(s, t, rows[i]);
  return 0;
}
