/* Tables of which a step reads single rows: those are read when they are asked for, and the latest are kept. */
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "stream_parts.h"

enum { SLOTS = 32 };

/* Rows lie in blocks, which are read and checked as one. */
typedef struct row_table {
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

int32_t lookup_open(edgert_stream *s) {
  const edgert_layout *l = &s->layout;
  int64_t most = 0;
  s->tables = calloc((size_t)l->lookup_count + 1, sizeof *s->tables);
  if (!s->tables) return stream_fail(s, "no memory for streaming"), 1;
  for (int64_t i = 0; i < l->lookup_count; i++) {
    row_table *t = &s->tables[i];
    t->about = &l->lookups[i];
    if (t->about->chosen) continue;
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

/* The bytes of a block, checked; NULL when they cannot be had. */
static const uint8_t *block_at(edgert_stream *s, row_table *t, int64_t block) {
  int64_t bytes = block_bytes(t, block), offset = t->about->offset + block * t->about->bytes;
  int64_t segment = segment_of(s, offset, bytes), least_used = 0;
  if (segment < 0) return stream_fail(s, "rows at byte %lld of the weights cross a segment's end", (long long)offset), NULL;
  const edgert_segment *about = &s->layout.segments[segment];
  if (s->where[segment]) return s->where[segment] + (offset - about->offset);
  for (int i = 0; i < SLOTS; i++) {
    if (t->block[i] == block) {
      t->used[i] = ++t->clock;
      return t->slots + i * t->room + offset % PAGE;
    }
    if (t->used[i] < t->used[least_used]) least_used = i;
  }
  uint8_t *slot = t->slots + least_used * t->room;
  int64_t start = offset / PAGE * PAGE, least = offset + bytes - start, n = pages(least);
  t->block[least_used] = -1;
  if (atomic_load(&t->known[block])) {
    if (chosen_read_one(s, start, slot, n, least)) return NULL;
    if (edgert_mix(slot + offset % PAGE, bytes) != t->marks[block])
      return stream_fail(s, "segment %lld of the weights, at byte %lld of the file, is damaged", (long long)segment,
                         (long long)(s->plan.start + offset)), NULL;
  } else { /* the first time its whole segment, which has a SHA-256 */
    n = pages(about->size);
    if (chosen_read_one(s, about->offset, s->scratch, n, about->size) || ring_check(s, segment, s->scratch)) return NULL;
    memcpy(slot + offset % PAGE, s->scratch + (offset - about->offset), (size_t)bytes);
  }
  s->figures.lookup_reads++;
  t->block[least_used] = block;
  t->used[least_used] = ++t->clock;
  return slot + offset % PAGE;
}

int32_t lookup_step(edgert_stream *s, edgert_ctx *ctx, const edgert_lookup *about, edgert_range run, void *with,
                    int64_t n) {
  row_table *t = &s->tables[about - s->layout.lookups];
  const uint8_t *indices = about->io >= 0 ? ctx->io[about->io] : ctx->arena + about->at;
  for (int64_t i = 0; i < n; i++) {
    int64_t index;
    if (about->item_bytes == 8) memcpy(&index, indices + 8 * i, 8);
    else {
      int32_t small;
      memcpy(&small, indices + 4 * i, 4);
      index = small;
    }
    if (index < 0) index += about->extent;
    if (index < 0 || index >= about->extent)
      return stream_fail(s, "index %lld is not in a table of %lld rows", (long long)index, (long long)about->extent), 1;
    int64_t block = index / about->rows;
    const uint8_t *at = block_at(s, t, block);
    if (!at) return 1;
    s->bases[about->weight] = at - (about->offset + block * about->bytes);
    run(with, i, i + 1);
  }
  s->figures.lookups += n;
  return 0;
}
