/* An artifact opened by a program: its members, its manifest as C tables, its code. */
#ifndef EDGERT_OPENED_H
#define EDGERT_OPENED_H
#include "archive.h"
#include "coded.h"
#include "json.h"
#include "program.h"

typedef struct {
  const char *path;
  const uint8_t *file; /* mapped whole */
  size_t size;
  archive members;
  const json *manifest;
  edgert_model model;
  const char *triple, *entry;
  const edgert_coded_segment *parts; /* of coded weights, or NULL */
  int64_t part_count, dram; /* dram: the budget it was compiled for, or 0 */
  const archive_member *code, *weights;
  edgert_entry run;
} opened;

/* opened.c: maps the file and checks all of it but the weights, which `place` of the session checks when they are mapped;
 * loads the code. Leaves where it is damaged or made for another machine. */
void open_artifact(opened *o, const char *path);
/* As far as the manifest is read: for what does not run it. */
void open_container(opened *o, const char *path);
weight_place opened_place(opened *o);
noreturn void damaged(const opened *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* variant.c: puts what the best variant that runs here says before the rest of the manifest, and gives 1; else 0. */
int choose_variant(opened *o);

/* manifest.c: fills in model, triple, entry, dram. manifest_stream.c: model.layout, segments, parts. */
void read_manifest(opened *o);
void read_weights_layout(opened *o);

/* A value of the manifest, with the path that led to it for messages. */
typedef struct {
  const opened *of;
  const json *value;
  char where[100];
} item;

item item_key(const item *in, const char *key);
item item_entry(const item *in, const json *entry, int64_t index);
int64_t item_integer(const item *i, int64_t low, int64_t high);
int64_t item_count(const item *list);
const char *item_text(const item *i);
noreturn void item_fail(const item *i, const char *wanted);

/* elf.c: maps the shared object's segments, each writable or executable or neither, and gives the address of `entry`;
 * NULL, with what is wrong, when it is not freestanding code for this machine. */
void *load_code(const uint8_t *file, size_t size, const char *entry, const char **fault);

#endif
