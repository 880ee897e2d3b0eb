/* Where the bytes of a model come from: a file, a device with a throttle, flash behind a bus. */
#ifndef EDGERT_SOURCE_H
#define EDGERT_SOURCE_H
#include <stdint.h>

typedef struct edgert_source edgert_source;

/* A source is a struct that begins with this one. Wrappers (a throttle, say) keep the source they pass reads on to. */
struct edgert_source {
  /* Reads up to n bytes from `offset` to `to`; all three are multiples of `align`. Gives the bytes read (fewer are
   * asked for again, -EINTR and -EAGAIN too; 0 is the file's end) or -errno. Several threads may call it at once. */
  int64_t (*read)(edgert_source *self, int64_t offset, void *to, int64_t n);
  /* Frees the source and those it wraps. Nobody reads from it any more. */
  void (*close)(edgert_source *self);
  int64_t align;
};

/* The file at `path`, past the page cache where its file system can (O_DIRECT), else dropping what it leaves there.
 * NULL, with the reason in errno, when it cannot be opened. */
edgert_source *edgert_source_file(const char *path);

#endif
