#define _GNU_SOURCE
#include "opened.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "coding.h"
#include "digest.h"
#include "pool.h"

enum { SCRATCH = (256 << 10) + 3 * 4096 }; /* of a part (manifest_stream.c) as coded.c decodes it */

void damaged(const opened *o, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *c = text; *c; c++)
    if ((uint8_t)*c < 0x20 || *c == 0x7F) *c = '?'; /* names out of a damaged file may hold anything */
  fail(FAILED, "%s: damaged artifact: %s", o->path, text);
}

void open_container(opened *o, const char *path) {
  *o = (opened){.path = path};
  o->file = map_file(path, &o->size);
  madvise((void *)o->file, o->size, MADV_RANDOM); /* until it is known what of it is wanted */
  const char *fault = archive_read(o->file, o->size, &o->members);
  if (fault) damaged(o, "%s", fault);
  const archive_member *first = o->members.members;
  if (!o->members.count || first != archive_get(&o->members, "manifest.json")) damaged(o, "its first member is not the manifest");
  const char *text = (const char *)o->file + first->data;
  if (archive_crc(o->file + first->data, first->size) != first->crc) damaged(o, "manifest.json does not match its CRC-32");
  json *nodes = anonymous((int64_t)(json_nodes(text, first->size) * sizeof *nodes), "the manifest");
  o->manifest = json_read(text, first->size, nodes, anonymous(first->size + 1, "the manifest"), &fault);
  if (fault) damaged(o, "manifest.json: %s", fault);
}

/* The members are those that the manifest lists, each with its SHA-256. */
static void check_members(opened *o) {
  item top = {o, o->manifest, ""}, list = item_key(&top, "members");
  if (list.value->kind != JSON_OBJECT || list.value->count + 2 != (uint64_t)o->members.count)
    damaged(o, "its members are not those the manifest lists");
  for (const json *entry = list.value->first; entry; entry = entry->next) {
    item one = item_key(&list, entry->key), size = item_key(&one, "size"), sha = item_key(&one, "sha256");
    const archive_member *member = archive_get(&o->members, entry->key);
    char text[65];
    uint8_t digest[32];
    if (!member || item_integer(&size, 0, INT64_MAX) != member->size) damaged(o, "its members are not those the manifest lists");
    edgert_sha256(o->file + member->data, member->size, digest);
    for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    if (strcmp(item_text(&sha), text)) damaged(o, "%s does not match its SHA-256", entry->key);
  }
}

void open_artifact(opened *o, const char *path) {
  open_container(o, path);
  if (json_get(o->manifest, "device"))
    fail(FAILED, "%s: compiled for a graphics processor, which this program does not use: compile with another --target", path);
  read_manifest(o);
  read_weights_layout(o);
  check_members(o);
  if (choose_variant(o)) {
    o->model = (edgert_model){0};
    read_manifest(o);
    read_weights_layout(o);
  }
  size_t length = strcspn(o->triple, "-");
  if (length != strlen(machine_name()) || strncmp(o->triple, machine_name(), length))
    fail(FAILED, "%s: compiled for %.*s, this machine is %s: compile with another --target", path, (int)length, o->triple,
         machine_name());
  const json *code = json_get(o->manifest, "code");
  o->code = archive_get(&o->members, code && code->kind == JSON_TEXT ? code->text : "code");
  const char *fault;
  if (!o->code) damaged(o, "it has no code");
  o->run = (edgert_entry)load_code(o->file + o->code->data, o->code->size, o->entry, &fault);
  if (fault) damaged(o, "its code cannot be loaded: %s", fault);
  madvise((void *)o->file, o->size, MADV_DONTNEED); /* all that was read stays out of a budget, but for what is used again */
}

typedef struct {
  const edgert_segment *segments;
  const uint8_t *weights;
  _Atomic int64_t wrong; /* the segment, or -1 */
} checking;

static void check_segments(edgert_ctx *with, int64_t begin, int64_t end) {
  checking *c = (checking *)with;
  for (int64_t i = begin; i < end && c->wrong < 0; i++) {
    uint8_t digest[32];
    edgert_sha256(c->weights + c->segments[i].offset, c->segments[i].size, digest);
    if (memcmp(digest, c->segments[i].sha256, 32)) c->wrong = i;
  }
}

/* All weights in memory, decoded where they are coded, and checked. */
static const uint8_t *mapped(const session *s) {
  const opened *o = s->place.with;
  const uint8_t *weights = o->file + o->weights->data;
  madvise((void *)o->file, o->size, MADV_NORMAL);
  if (o->parts) {
    uint8_t *decoded = anonymous(o->model.weights_bytes, "the weights");
    for (const edgert_coded_segment *p = o->parts; p < o->parts + o->part_count; p++) {
      const uint8_t *from = weights + p->at; /* the member is followed by more than a decoder may read behind it */
      if (!p->coded) memcpy(decoded + p->offset, from, p->size);
      else if (edgert_decode(from, p->bytes, decoded + p->offset, p->size)) damaged(o, "weights.bin: coded weights are damaged");
    }
    weights = decoded;
  }
  checking c = {o->model.segments, weights, -1};
  edgert_pool_run(s->rt, (edgert_ctx *)&c, check_segments, o->model.segment_count, 1);
  if (c.wrong >= 0) damaged(o, "weights.bin, segment %lld does not match its SHA-256", (long long)c.wrong);
  return weights;
}

static edgert_source *source(const session *s) {
  const opened *o = s->place.with;
  edgert_source *file = edgert_source_file(o->path);
  if (!file || !o->parts) return file;
  edgert_coded_segment *parts = malloc(o->part_count * sizeof *parts);
  if (!parts) return NULL;
  for (int64_t i = 0; i < o->part_count; i++) {
    parts[i] = o->parts[i];
    parts[i].at += o->weights->data;
  }
  edgert_source *coded = edgert_source_coded(file, parts, o->part_count);
  free(parts);
  return coded;
}

weight_place opened_place(opened *o) {
  return (weight_place){mapped, source, o->path, o->parts ? 0 : o->weights->data, o->parts ? SCRATCH : 0, o};
}
