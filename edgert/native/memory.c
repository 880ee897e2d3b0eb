#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

_Thread_local mapping **keeping;

static void note(void *at, size_t bytes) {
  mapping *made = keeping ? malloc(sizeof *made) : NULL;
  if (!made) return;
  *made = (mapping){*keeping, at, bytes};
  *keeping = made;
}

void *anonymous(int64_t bytes, const char *what) {
  void *at = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) fail(DOES_NOT_FIT, "no memory for %s: needs %lld bytes", what, (long long)bytes);
  note(at, bytes > 0 ? bytes : 1);
  return at;
}

long long free_memory(void) {
  long long have = 0;
  char line[256];
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && !have && fgets(line, sizeof line, file)) sscanf(line, "MemAvailable: %lld kB", &have);
  if (file) fclose(file);
  return have * 1024;
}

void check_free(long long need, const char *what) {
  long long have = free_memory();
  if (have && need > have) fail(DOES_NOT_FIT, "needs %lld bytes (%s), free are %lld", need, what, have);
}

void check_memory(const edgert_model *model) {
  long long need = model->arena_bytes;
  for (int64_t i = 0; i < model->input_count; i++) need += model->inputs[i].bytes;
  for (int64_t i = 0; i < model->output_count; i++) need += model->outputs[i].bytes;
  check_free(need, "arena, inputs and outputs");
}

const uint8_t *map_file(const char *path, size_t *size) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0 || fstat(file, &status)) fail(errno == ENOENT ? WRONG_USE : FAILED, "%s: %s", path, strerror(errno));
  if (!S_ISREG(status.st_mode)) fail(WRONG_USE, "%s: not a regular file", path);
  *size = status.st_size;
  if (!*size) fail(FAILED, "%s: it is empty", path);
  void *at = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0);
  if (at == MAP_FAILED) fail(FAILED, "%s: %s", path, strerror(errno));
  close(file);
  note(at, *size);
  return at;
}
