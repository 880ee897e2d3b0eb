#define _GNU_SOURCE
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { PAGE = 4096, SECTOR = 512 };

typedef struct {
  edgert_source source;
  int file, cached; /* cached: reads go through the page cache, which is to forget them */
} file_source;

static int64_t file_read(edgert_source *self, int64_t offset, void *to, int64_t n) {
  file_source *from = (file_source *)self;
  ssize_t got = pread(from->file, to, (size_t)n, (off_t)offset);
  if (got < 0) return -errno;
  if (from->cached) posix_fadvise(from->file, (off_t)offset, got, POSIX_FADV_DONTNEED);
  return got;
}

static void file_close(edgert_source *self) {
  close(((file_source *)self)->file);
  free(self);
}

/* The least that can be read past the page cache: what devices with sectors of 512 bytes take, or a page. */
static int64_t least_read(int file) {
  void *to;
  if (posix_memalign(&to, PAGE, SECTOR)) return PAGE;
  ssize_t got = pread(file, to, SECTOR, SECTOR);
  free(to);
  return got < 0 ? PAGE : SECTOR;
}

edgert_source *edgert_source_file(const char *path) {
  int cached = 0, file = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (file < 0 && errno == EINVAL) {
    cached = 1;
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM); /* no read-ahead beside ours */
  }
  file_source *made = file < 0 ? NULL : malloc(sizeof *made);
  if (!made) {
    if (file >= 0) close(file);
    return NULL;
  }
  *made = (file_source){{file_read, file_close, cached ? PAGE : least_read(file)}, file, cached};
  return &made->source;
}
