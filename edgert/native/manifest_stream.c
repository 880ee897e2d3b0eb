/* The manifest's weight segments, what is streamed and what is coded: as edgert/manifest_stream.py and coding.py check. */
#include <string.h>

#include "opened.h"

enum { PAGE = 4096, PART = 256 << 10 };
static const int64_t MOST = (int64_t)1 << 46;

static int64_t pages(int64_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static void *room(int64_t count, size_t size) { return anonymous(count * (int64_t)size, "the manifest"); }

static int64_t integer(const item *in, const char *key, int64_t low, int64_t high) {
  item one = item_key(in, key);
  return item_integer(&one, low, high);
}

static void read_sha(const item *i, uint8_t *to) {
  const char *digits = "0123456789abcdef", *text = item_text(i);
  if (strlen(text) != 64 || strspn(text, digits) != 64) item_fail(i, "a SHA-256 in hexadecimal");
  for (int k = 0; k < 32; k++)
    to[k] = (uint8_t)((strchr(digits, text[2 * k]) - digits) << 4 | (strchr(digits, text[2 * k + 1]) - digits));
}

static void read_segments(opened *o, const item *top) {
  item list = item_key(top, "segments");
  int64_t count = item_count(&list), end = 0, index = 0;
  edgert_segment *made = room(count, sizeof *made);
  for (const json *entry = list.value->first; entry; entry = entry->next, index++) {
    item one = item_entry(&list, entry, index), kind = item_key(&one, "residency"), sha = item_key(&one, "sha256");
    int64_t offset = integer(&one, "offset", 0, o->model.weights_bytes);
    if (offset != end || offset % PAGE) item_fail(&one, "where the segment before ends, at whole pages");
    const char *residency = item_text(&kind);
    if (strcmp(residency, "resident") && strcmp(residency, "streamed")) item_fail(&kind, "resident or streamed");
    made[index].offset = offset;
    made[index].size = integer(&one, "size", 1, o->model.weights_bytes - offset);
    made[index].resident = !strcmp(residency, "resident");
    read_sha(&sha, made[index].sha256);
    end = offset + made[index].size;
  }
  if (end != o->model.weights_bytes) damaged(o, "segments cover %lld of %lld bytes", (long long)end, (long long)o->model.weights_bytes);
  o->model.segments = made;
  o->model.segment_count = count;
}

/* Numbers of a list at `entry` of so many. */
static const json *list_of(const item *i, int64_t count) {
  if (item_count(i) != count) item_fail(i, "a list of as many as it must have");
  return i->value->first;
}

static int64_t plain(const item *i, const json *entry, int64_t low, int64_t high) {
  item one = {i->of, entry, ""};
  memcpy(one.where, i->where, sizeof one.where);
  return item_integer(&one, low, high);
}

static void read_visits(const opened *o, const item *stream, edgert_layout *layout) {
  item list = item_key(stream, "visits");
  int64_t pieces = 0, index = 0;
  edgert_visit *visits = room(item_count(&list), sizeof *visits);
  for (const json *entry = list.value->first; entry; entry = entry->next) {
    item visit = item_entry(&list, entry, index++);
    const json *last = list_of(&visit, 5);
    while (last->next) last = last->next;
    item parts = {o, last, ""};
    memcpy(parts.where, visit.where, sizeof parts.where);
    pieces += item_count(&parts);
  }
  edgert_piece *piece = room(pieces, sizeof *piece);
  layout->visits = visits;
  layout->pieces = piece;
  edgert_visit before = {0};
  for (const json *entry = list.value->first; entry; entry = entry->next, layout->visit_count++) {
    item visit = item_entry(&list, entry, layout->visit_count);
    const json *step = entry->first, *begin = step->next, *end = begin->next, *units = end->next;
    edgert_visit *to = &visits[layout->visit_count];
    to->step = plain(&visit, step, before.step, o->model.step_count - 1);
    to->units = plain(&visit, units, 1, MOST);
    to->begin = plain(&visit, begin, 0, to->units - 1);
    to->end = plain(&visit, end, 1, to->units);
    int same = layout->visit_count && to->step == before.step;
    if ((same && before.end == before.units) || to->begin != (same ? before.end : 0) || to->end <= to->begin)
      item_fail(&visit, "where the visit before ends");
    before = *to;
    to->first = layout->piece_count;
    to->count = units->next->count;
    for (const json *part = units->next->first; part; part = part->next, layout->piece_count++) {
      item pair = item_entry(&visit, part, layout->piece_count - to->first);
      const json *segment = list_of(&pair, 2);
      piece[layout->piece_count] = (edgert_piece){plain(&pair, segment, 0, layout->segment_count - 1),
                                                  plain(&pair, segment->next, 0, layout->weights - 1)};
    }
  }
}

static void read_lookups(const opened *o, const item *stream, edgert_layout *layout) {
  item list = item_key(stream, "lookups");
  edgert_lookup *made = room(item_count(&list), sizeof *made);
  layout->lookups = made;
  for (const json *entry = list.value->first; entry; entry = entry->next) {
    item one = item_entry(&list, entry, layout->lookup_count);
    edgert_lookup t = {
        .step = integer(&one, "step", 0, o->model.step_count - 1), .weight = integer(&one, "weight", 0, layout->weights - 1),
        .offset = integer(&one, "offset", 0, MOST), .size = integer(&one, "size", 1, MOST),
        .extent = integer(&one, "extent", 1, (int64_t)1 << 31), .rows = integer(&one, "rows", 1, MOST),
        .bytes = integer(&one, "bytes", 1, MOST), .io = integer(&one, "io", -1, o->model.input_count - 1),
        .at = integer(&one, "at", 0, o->model.arena_bytes), .item_bytes = integer(&one, "item_bytes", 4, 8), .ahead = -1};
    if (json_get(entry, "chosen")) {
      t.chosen = integer(&one, "chosen", 0, 1);
      t.used = integer(&one, "used", 0, MOST);
    }
    if (json_get(entry, "ahead")) t.ahead = integer(&one, "ahead", 0, o->model.arena_bytes);
    if (json_get(entry, "ends")) t.ends = integer(&one, "ends", 0, 1);
    if (entry->count != 10 + !!json_get(entry, "ends") + 2 * !!json_get(entry, "chosen") + !!json_get(entry, "ahead")) item_fail(&one, "a table of a kind that this program knows");
    if (t.chosen && (t.ends || t.item_bytes != 4 || t.rows != 1 || t.used < 1 || t.used > t.bytes))
      item_fail(&one, "a table whose rows are chosen one by one");
    if ((t.item_bytes != 4 && t.item_bytes != 8) || t.offset + t.size > o->model.weights_bytes ||
        (t.extent + t.rows - 1) / t.rows > (t.size + t.bytes - 1) / t.bytes)
      item_fail(&one, "a table within the weights");
    made[layout->lookup_count++] = t;
  }
}

static void read_arena(opened *o, const item *stream) {
  item list = item_key(stream, "arena");
  edgert_arena_use *made = room(item_count(&list), sizeof *made);
  o->model.arena_uses = made;
  for (const json *entry = list.value->first; entry; entry = entry->next) {
    item one = item_entry(&list, entry, o->model.arena_use_count);
    int pair = item_count(&one) == 2;
    const json *most = list_of(&one, pair ? 2 : 3), *bytes = pair ? most->next : most->next->next;
    made[o->model.arena_use_count++] =
        (edgert_arena_use){plain(&one, most, 0, MOST), pair ? MOST : plain(&one, most->next, 0, MOST),
                           plain(&one, bytes, 0, pages(o->model.arena_bytes))};
  }
}

/* Segments cut in parts, each coded by itself or as it is. */
static void read_coding(opened *o, const item *top, int64_t *stored) {
  item coding = item_key(top, "coding"), list = item_key(&coding, "parts");
  int64_t count = 0, end = 0, index = 0;
  for (int64_t i = 0; i < o->model.segment_count; i++) count += (o->model.segments[i].size + PART - 1) / PART;
  if (item_count(&list) != count) item_fail(&list, "all parts of the segments");
  edgert_coded_segment *parts = room(count, sizeof *parts);
  const json *entry = list.value->first;
  for (int64_t i = 0; i < o->model.segment_count; i++) {
    const edgert_segment *segment = &o->model.segments[i];
    if (segment->size % PAGE && i + 1 < o->model.segment_count) item_fail(&coding, "of segments of whole pages");
    for (int64_t at = 0; at < segment->size; at += PART, entry = entry->next, index++) {
      item row = item_entry(&list, entry, index);
      const json *first = list_of(&row, 3);
      int64_t size = segment->size - at < PART ? segment->size - at : PART;
      parts[index] = (edgert_coded_segment){segment->offset + at, size, plain(&row, first, end, end),
                                            plain(&row, first->next, 1, size), plain(&row, first->next->next, 0, 1)};
      if (!parts[index].coded && parts[index].bytes != size) item_fail(&row, "as long as its segment");
      end = pages(end + parts[index].bytes);
    }
  }
  *stored = integer(&coding, "stored", end, end);
  o->parts = parts;
  o->part_count = count;
}

void read_weights_layout(opened *o) {
  item top = {o, o->manifest, ""};
  read_segments(o, &top);
  if (json_get(o->manifest, "stream")) {
    item stream = item_key(&top, "stream");
    edgert_layout *layout = room(1, sizeof *layout);
    layout->weights = integer(&stream, "weights", 0, 1 << 20);
    layout->segment_count = o->model.segment_count;
    layout->segments = o->model.segments;
    read_visits(o, &stream, layout);
    read_lookups(o, &stream, layout);
    if (json_get(stream.value, "arena")) read_arena(o, &stream);
    o->model.layout = layout;
  }
  int64_t stored = o->model.weights_bytes;
  if (json_get(o->manifest, "coding")) read_coding(o, &top, &stored);
  o->weights = archive_get(&o->members, "weights.bin");
  if (!o->weights || o->weights->size != stored) damaged(o, "weights.bin is not as long as the manifest says");
}
