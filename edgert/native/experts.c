/* Tables of which a step reads large rows that it chose: experts of a mixture. Each is read to where it stays; of those
 * that have room the one goes that was used longest ago. */
#include <stdlib.h>

#include "stream_parts.h"

enum { LEAST = 64 << 10 };

typedef struct expert_table {
  const edgert_lookup *about;
  int64_t segment;     /* of row 0; each row is one */
  int64_t room, clock; /* rows that may stay; counts steps, twice */
  uint8_t *rows;       /* [room][about->bytes] */
  int32_t *owner;      /* [room] the row there; -1: none */
  int32_t *slot;       /* [extent] -1: not in memory */
  int64_t *last;       /* [extent] the step that used it last */
  uint8_t *fresh;      /* [extent] 1: read, but not checked */
} expert_table;

int32_t experts_are(const edgert_lookup *about) {
  return about->chosen && about->used == about->bytes && about->bytes >= LEAST && about->bytes % PAGE == 0;
}

int32_t experts_open(edgert_stream *s) {
  const edgert_layout *l = &s->layout;
  int64_t ranges = 0;
  s->experts = calloc((size_t)l->lookup_count + 1, sizeof *s->experts);
  int32_t right = s->experts != NULL;
  for (int64_t i = 0; right && i < l->lookup_count; i++) {
    expert_table *t = &s->experts[i];
    const edgert_lookup *about = t->about = &l->lookups[i];
    if (!experts_are(about)) continue;
    while (t->segment < l->segment_count && l->segments[t->segment].offset < about->offset) t->segment++;
    for (int64_t r = 0; r < about->extent; r++)
      if (t->segment + r >= l->segment_count || l->segments[t->segment + r].offset != about->offset + r * about->bytes ||
          l->segments[t->segment + r].size != about->bytes)
        return stream_fail(s, "row %lld of a table is not a segment: compile the model again", (long long)r), 1;
    s->expert_tables++;
    t->slot = malloc((size_t)about->extent * sizeof *t->slot);
    t->last = calloc((size_t)about->extent, sizeof *t->last);
    t->fresh = calloc((size_t)about->extent, 1);
    right = t->slot && t->last && t->fresh;
    int64_t most = about->extent * (about->bytes / s->plan.block_bytes + 1);
    ranges = most > ranges ? most : ranges;
  }
  if (right && s->expert_tables) right = (s->expert_ranges = malloc((size_t)ranges * sizeof *s->expert_ranges)) != NULL;
  return right ? 0 : (stream_fail(s, "no memory for experts"), 1);
}

int32_t experts_fill(edgert_stream *s, int64_t bytes) {
  for (int64_t i = 0; s->expert_tables && i < s->layout.lookup_count; i++) {
    expert_table *t = &s->experts[i];
    if (!t->slot) continue;
    int64_t room = 1 + bytes / s->expert_tables / (t->about->bytes + (int64_t)sizeof *t->owner);
    t->room = room < t->about->extent ? room : t->about->extent;
    for (int64_t r = 0; r < t->about->extent; r++) {
      t->slot[r] = -1;
      t->fresh[r] = 0;
    }
    t->rows = stream_memory(t->room * t->about->bytes);
    t->owner = malloc((size_t)t->room * sizeof *t->owner);
    if (!t->rows || !t->owner) return stream_fail(s, "no memory for experts"), 1;
    for (int64_t r = 0; r < t->room; r++) t->owner[r] = -1;
    s->figures.pinned_bytes += t->room * t->about->bytes;
  }
  return 0;
}

void experts_drop(edgert_stream *s) {
  for (int64_t i = 0; s->experts && i < s->layout.lookup_count; i++) {
    expert_table *t = &s->experts[i];
    if (t->rows) stream_release(t->rows, t->room * t->about->bytes);
    free(t->owner);
    t->rows = NULL;
    t->owner = NULL;
  }
}

void experts_close(edgert_stream *s) {
  experts_drop(s);
  for (int64_t i = 0; s->experts && i < s->layout.lookup_count; i++) {
    free(s->experts[i].slot);
    free(s->experts[i].last);
    free(s->experts[i].fresh);
  }
  free(s->experts);
  free(s->expert_ranges);
}

/* A place for a row: a free one, or that of the row used longest ago, but for those in use. -1: there is none. */
static int64_t place_for(const expert_table *t) {
  int64_t found = -1;
  for (int64_t p = 0; p < t->room; p++) {
    if (t->owner[p] < 0) return p;
    int64_t last = t->last[t->owner[p]];
    if (last < t->clock && (found < 0 || last < t->last[t->owner[found]])) found = p;
  }
  return found;
}

static void forget(expert_table *t, int32_t row) {
  if (t->slot[row] >= 0) t->owner[t->slot[row]] = -1;
  t->slot[row] = -1;
  t->fresh[row] = 0;
}

void experts_forget(edgert_stream *s) {
  for (int64_t i = 0; s->expert_tables && i < s->layout.lookup_count; i++)
    for (int64_t r = 0; s->experts[i].slot && r < s->experts[i].about->extent; r++)
      if (s->experts[i].fresh[r]) forget(&s->experts[i], (int32_t)r);
}

/* Gives a row a place, and says what is to be read there. 0 when there is none. */
static int32_t take(edgert_stream *s, expert_table *t, int32_t row) {
  int64_t place = place_for(t), size = t->about->bytes, block = s->plan.block_bytes;
  if (place < 0) return 0;
  if (t->owner[place] >= 0) forget(t, t->owner[place]);
  t->owner[place] = row;
  t->slot[row] = (int32_t)place;
  t->fresh[row] = 1;
  for (int64_t at = 0; at < size; at += block) {
    int64_t n = size - at < block ? size - at : block;
    s->expert_ranges[s->expert_range_count++] =
        (stream_range){t->about->offset + row * size + at, n, n, t->rows + place * size + at};
  }
  return 1;
}

/* Brings the first of the rows [0, count) that have room at once. Gives how many; 0 when that failed. */
static int64_t bring(edgert_stream *s, expert_table *t, const int32_t *rows, int64_t count) {
  int64_t missing = 0, some = 0;
  t->clock += 2;
  for (int64_t i = 0; i < count; i++) /* those that are there and wanted later go last */
    if (t->slot[rows[i]] >= 0) t->last[rows[i]] = t->clock - 1;
  s->expert_range_count = 0;
  for (; some < count; some++) {
    int32_t row = rows[some];
    if (t->slot[row] < 0) {
      if (!take(s, t, row)) break;
      missing++;
    }
    t->last[row] = t->clock;
  }
  int32_t wrong = s->expert_range_count && chosen_read_all(s, s->expert_ranges, s->expert_range_count);
  for (int64_t i = 0; i < some; i++) {
    int32_t row = rows[i];
    if (!t->fresh[row]) continue;
    wrong = wrong || ring_check(s, t->segment + row, t->rows + t->slot[row] * t->about->bytes);
    t->fresh[row] = 0;
    if (wrong) forget(t, row);
  }
  chosen_counted(s, some, missing);
  return wrong ? 0 : some;
}

/* Has those rows of the next such table read that it will likely be asked for. */
static void look_ahead(edgert_stream *s, const edgert_ctx *ctx, int64_t number) {
  const edgert_lookup *about = &s->layout.lookups[number];
  int64_t next = number + 1;
  while (next < s->layout.lookup_count && !s->experts[next].slot) next++;
  if (about->ahead < 0 || next == s->layout.lookup_count) return;
  expert_table *t = &s->experts[next];
  const int32_t *rows = (const int32_t *)(ctx->arena + about->ahead);
  t->clock += 2;
  s->expert_range_count = 0;
  for (int64_t i = 0; i < t->about->extent && rows[i] >= 0 && rows[i] < t->about->extent; i++) {
    if (t->slot[rows[i]] < 0 && !take(s, t, rows[i])) break;
    t->last[rows[i]] = t->clock;
  }
  if (s->expert_range_count) chosen_read_ahead(s, s->expert_ranges, s->expert_range_count);
}

int32_t experts_step(edgert_stream *s, edgert_ctx *ctx, int64_t number, edgert_range run, void *with, int64_t n) {
  expert_table *t = &s->experts[number];
  const edgert_lookup *about = t->about;
  const int32_t *rows;
  int64_t count = chosen_rows(s, ctx, about, n, &rows);
  if (count < 0 || chosen_wait(s)) return 1;
  for (int64_t from = 0, to; from < count || from == 0; from = to) { /* the first task also prepares the result */
    int64_t some = count ? bring(s, t, rows + from, count - from) : 0;
    if (count && !some) return 1;
    to = from + (count ? some : 1);
    if (to >= count) look_ahead(s, ctx, number);
    for (int64_t i = from; i < to; i++) {
      s->bases[about->weight] = count ? t->rows + t->slot[rows[i]] * about->bytes - (about->offset + rows[i] * about->bytes)
                                      : t->rows - about->offset;
      run(with, i, i + 1);
    }
  }
  return 0;
}
