/* The program of one model (--emit exe): its code is linked in, its weights stand at its file's end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

#define OWN_FILE "/proc/self/exe"
#ifndef EDGERT_PROGRAM
#define EDGERT_PROGRAM run_tensors
#endif

/* Opens its own file and finds the weights in it. */
static int own_weights(const edgert_model *model, off_t *start) {
  edgert_trailer trailer;
  struct stat status;
  int file = open(OWN_FILE, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &status)) fail(FAILED, "cannot read its own file: %s", strerror(errno));
  off_t last = status.st_size - (off_t)sizeof trailer, end = last - 32 * model->segment_count;
  if (end < 0 || pread(file, &trailer, sizeof trailer, last) != sizeof trailer ||
      memcmp(trailer.magic, "EDGERTW1", 8) || trailer.bytes != (uint64_t)model->weights_bytes || trailer.offset % 4096 ||
      trailer.offset > (uint64_t)end || trailer.bytes != (uint64_t)end - trailer.offset)
    fail(FAILED, "its file is damaged: the weights at its end are not those it was built with");
  *start = (off_t)trailer.offset;
  return file;
}

/* Where in its own file they are; fills in segments' SHA-256. */
static int64_t weights_start(const edgert_model *model) {
  off_t start;
  int file = own_weights(model, &start);
  for (int64_t i = 0; model->segments && i < model->segment_count; i++)
    if (pread(file, model->segments[i].sha256, 32, start + model->weights_bytes + 32 * i) != 32)
      fail(FAILED, "cannot read its own file: %s", strerror(errno));
  close(file);
  return start;
}

static const uint8_t *mapped(const session *s) {
  const edgert_model *model = s->model;
  off_t start;
  int file = own_weights(model, &start);
  int64_t bytes = model->weights_bytes;
  void *at = bytes ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, start) : NULL;
  if (at == MAP_FAILED) fail(FAILED, "cannot map its weights: %s", strerror(errno));
  close(file);
  return at;
}

static edgert_source *source(const session *s) {
  (void)s;
  return edgert_source_file(OWN_FILE);
}

int main(int count, char **words) {
  const edgert_model *model = &edgert_the_model;
  program_name = model->name;
  session s = {.model = model, .entry = edgert_run, .place = {.map = mapped, .source = source, .path = OWN_FILE}};
  if (model->layout) s.place.start = weights_start(model);
  return EDGERT_PROGRAM(&s, count, words);
}
