/* Tables of which a step reads single rows: those are read when they are asked for, and the latest are kept. */
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "stream_parts.h"

enum { SLOTS = 32, BATCH = 16, TABLES = 2 }; /* a batch's blocks stay until it is done */

/* Rows lie in blocks, which are read and checked as one. Steps that look up in the same table share what was read. */
typedef struct row_table {
  struct row_table *same; /* the first one of these rows, which has all that follows */
  const edgert_lookup *about;
  int64_t blocks, room; /* room: bytes of a slot, whole pages around a block */
  uint64_t *marks;      /* [blocks] edgert_mix */
  _Atomic uint8_t *known;
  uint8_t *slots; /* [SLOTS][room] */
  int64_t block[SLOTS], used[SLOTS], clock;
} row_table;

/* All blocks are equal but for the last one. */
static int64_t block_bytes(const row_table *t, int64_t block) {
  int64_t left = t->about->size - block * t->about->bytes;
  return left < t->about->bytes ? left : t->about->bytes;
}

int64_t lookup_first(const edgert_layout *l, int64_t lookup) {
  const edgert_lookup *about = &l->lookups[lookup], *other = l->lookups;
  while (other->chosen != about->chosen || other->offset != about->offset || other->size != about->size ||
         other->bytes != about->bytes)
    other++;
  return other - l->lookups;
}

int32_t lookup_open(edgert_stream *s) {
  const edgert_layout *l = &s->layout;
  int64_t most = 0;
  s->tables = calloc((size_t)l->lookup_count + 1, sizeof *s->tables);
  if (!s->tables) return stream_fail(s, "no memory for streaming"), 1;
  for (int64_t i = 0; i < l->lookup_count; i++) {
    row_table *t = &s->tables[i];
    t->about = &l->lookups[i];
    t->same = &s->tables[lookup_first(l, i)];
    if (t->about->chosen || t->same != t) continue;
    t->blocks = (t->about->size + t->about->bytes - 1) / t->about->bytes;
    t->room = pages(t->about->bytes) + PAGE;
    t->marks = calloc((size_t)t->blocks, sizeof *t->marks);
    t->known = calloc((size_t)t->blocks, 1);
    t->slots = stream_memory(SLOTS * t->room);
    if (!t->marks || !t->known || !t->slots) return stream_fail(s, "no memory for rows of a table"), 1;
    for (int j = 0; j < SLOTS; j++) t->block[j] = -1;
    for (int64_t j = 0; j < l->segment_count; j++) {
      int64_t begin = l->segments[j].offset - t->about->offset, end = begin + l->segments[j].size;
      if (begin < t->about->size && end > 0 && l->segments[j].size > most) most = l->segments[j].size;
    }
  }
  s->scratch_bytes = pages(most);
  s->scratch = stream_memory(s->scratch_bytes);
  return s->scratch ? 0 : (stream_fail(s, "no memory for rows of a table"), 1);
}

void lookup_close(edgert_stream *s) {
  for (int64_t i = 0; s->tables && i < s->layout.lookup_count; i++) {
    row_table *t = &s->tables[i];
    if (t->slots) stream_release(t->slots, SLOTS * t->room);
    free((void *)t->known);
    free(t->marks);
  }
  free(s->tables);
  stream_release(s->scratch, s->scratch_bytes);
}

void lookup_learn(edgert_stream *s, int64_t segment, const uint8_t *bytes) {
  const edgert_segment *about = &s->layout.segments[segment];
  for (int64_t i = 0; i < s->layout.lookup_count; i++) {
    row_table *t = &s->tables[i];
    int64_t each = t->about->bytes, begin = about->offset - t->about->offset, end = begin + about->size;
    if (end <= 0 || begin >= t->about->size) continue;
    for (int64_t b = begin > 0 ? (begin + each - 1) / each : 0; b < t->blocks; b++) {
      if (b * each + block_bytes(t, b) > end) break;
      t->marks[b] = edgert_mix(bytes + (b * each - begin), block_bytes(t, b));
      atomic_store(&t->known[b], 1);
    }
  }
}

/* The segment that holds a block whole, or -1. */
static int64_t segment_of(const edgert_stream *s, int64_t offset, int64_t bytes) {
  int64_t low = 0, high = s->layout.segment_count;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (s->layout.segments[middle].offset <= offset) low = middle + 1;
    else high = middle;
  }
  const edgert_segment *found = &s->layout.segments[low - 1];
  return low && offset + bytes <= found->offset + found->size ? low - 1 : -1;
}

/* The slot that holds a block, or -1. */
static int slot_of(row_table *t, int64_t block) {
  for (int i = 0; i < SLOTS; i++)
    if (t->block[i] == block) return t->used[i] = ++t->clock, i;
  return -1;
}

/* The slot used longest ago, which holds nothing from now on. */
static int free_slot(row_table *t) {
  int found = 0;
  for (int i = 1; i < SLOTS; i++)
    if (t->used[i] < t->used[found]) found = i;
  t->block[found] = -1;
  t->used[found] = ++t->clock;
  return found;
}

static int32_t damaged(edgert_stream *s, int64_t segment, int64_t offset) {
  stream_fail(s, "segment %lld of the weights, at byte %lld of the file, is damaged", (long long)segment,
              (long long)(s->plan.start + offset));
  return 1;
}

/* The bytes of a block, checked; NULL when they cannot be had. */
static const uint8_t *block_at(edgert_stream *s, row_table *t, int64_t block) {
  int64_t bytes = block_bytes(t, block), offset = t->about->offset + block * t->about->bytes;
  int64_t segment = segment_of(s, offset, bytes);
  if (segment < 0) return stream_fail(s, "rows at byte %lld of the weights cross a segment's end", (long long)offset), NULL;
  const edgert_segment *about = &s->layout.segments[segment];
  if (s->where[segment]) return s->where[segment] + (offset - about->offset);
  int at = slot_of(t, block);
  if (at >= 0) return t->slots + at * t->room + offset % PAGE;
  at = free_slot(t);
  uint8_t *slot = t->slots + at * t->room;
  int64_t start = offset / PAGE * PAGE, least = offset + bytes - start, n = pages(least);
  if (atomic_load(&t->known[block])) {
    if (chosen_read_one(s, start, slot, n, least)) return NULL;
    if (edgert_mix(slot + offset % PAGE, bytes) != t->marks[block]) return damaged(s, segment, offset), NULL;
  } else { /* the first time its whole segment, which has a SHA-256 */
    n = pages(about->size);
    if (chosen_read_one(s, about->offset, s->scratch, n, about->size) || ring_check(s, segment, s->scratch)) return NULL;
    memcpy(slot + offset % PAGE, s->scratch + (offset - about->offset), (size_t)bytes);
  }
  s->figures.lookup_reads++;
  t->block[at] = block;
  return slot + offset % PAGE;
}

/* Index i, counted from the table's begin; -1 where that is not in it, its extent where the indices end. */
static int64_t index_at(const edgert_lookup *about, const uint8_t *indices, int64_t i) {
  int64_t index;
  if (about->item_bytes == 8) memcpy(&index, indices + 8 * i, 8);
  else {
    int32_t small;
    memcpy(&small, indices + 4 * i, 4);
    index = small;
  }
  if (about->ends) return index < 0 || index > about->extent ? -1 : index;
  if (index < 0) index += about->extent;
  return index < 0 || index >= about->extent ? -1 : index;
}

/* Reads what of `some` rows, of each table, is not at hand but known, at once. 0 when right. */
static int32_t bring(edgert_stream *s, row_table *tables, int64_t count, const int64_t *rows, int64_t some) {
  struct {
    row_table *t;
    int64_t block;
    int slot;
  } missing[BATCH * TABLES];
  stream_range ranges[BATCH * TABLES];
  int64_t found = 0;
  for (int64_t k = 0; k < count * some; k++) {
    const edgert_lookup *about = tables[k % count].about;
    row_table *t = tables[k % count].same;
    int64_t block = rows[k / count] / about->rows, bytes = block_bytes(t, block);
    int64_t offset = t->about->offset + block * t->about->bytes, segment = segment_of(s, offset, bytes);
    if (segment < 0 || s->where[segment] || !atomic_load(&t->known[block]) || slot_of(t, block) >= 0) continue;
    int slot = free_slot(t);
    t->block[slot] = block;
    int64_t start = offset / PAGE * PAGE, least = offset + bytes - start;
    missing[found].t = t;
    missing[found].block = block;
    missing[found].slot = slot;
    ranges[found++] = (stream_range){start, pages(least), least, t->slots + slot * t->room};
  }
  int32_t wrong = found && chosen_read_some(s, ranges, found);
  for (int64_t k = 0; k < found; k++) {
    row_table *t = missing[k].t;
    int64_t block = missing[k].block, offset = t->about->offset + block * t->about->bytes;
    if (!wrong && edgert_mix(ranges[k].to + offset % PAGE, block_bytes(t, block)) != t->marks[block])
      wrong = damaged(s, segment_of(s, offset, 1), offset);
    if (wrong) t->block[missing[k].slot] = -1;
    s->figures.lookup_reads++;
  }
  return wrong;
}

int32_t lookup_step(edgert_stream *s, edgert_ctx *ctx, const edgert_lookup *about, edgert_range run, void *with,
                    int64_t n) {
  row_table *tables = &s->tables[about - s->layout.lookups];
  const uint8_t *indices = about->io >= 0 ? ctx->io[about->io] : ctx->arena + about->at;
  int64_t count = 1, rows[BATCH], left = s->layout.lookup_count - (about - s->layout.lookups);
  while (count < TABLES && count < left && about[count].step == about->step) count++;
  for (int64_t i = 0, some; i < n; i += some) {
    int ended = 0;
    for (some = 0; some < BATCH && i + some < n && !ended; some++) {
      rows[some] = index_at(about, indices, i + some);
      if (rows[some] < 0)
        return stream_fail(s, "index number %lld is not in a table of %lld rows", (long long)(i + some), (long long)about->extent), 1;
      if (rows[some] == about->extent) ended = 1, some--;
    }
    if (bring(s, tables, count, rows, some)) return 1;
    for (int64_t r = 0; r < some; r++) {
      for (int64_t k = 0; k < count; k++) {
        const edgert_lookup *table = tables[k].about;
        int64_t block = rows[r] / table->rows;
        const uint8_t *at = block_at(s, tables[k].same, block);
        if (!at) return 1;
        s->bases[table->weight] = at - (table->offset + block * table->bytes);
      }
      run(with, i + r, i + r + 1);
    }
    s->figures.lookups += some;
    if (ended) break;
  }
  return 0;
}
