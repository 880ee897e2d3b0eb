/* The artifact's container: a ZIP in the one form that edgert/zipformat.py writes, every byte of its headers checked. */
#ifndef EDGERT_ARCHIVE_H
#define EDGERT_ARCHIVE_H
#include <stddef.h>
#include <stdint.h>

enum { ARCHIVE_PAGE = 4096 };

typedef struct {
  const char *name; /* `length` bytes in the file, no NUL behind them */
  int32_t length;
  uint32_t crc;
  int64_t size, header, data; /* header, data: where they begin in the file */
} archive_member;

typedef struct {
  archive_member *members;
  int64_t count;
} archive;

/* Finds the members in the size bytes at file. NULL when right, else what is wrong. */
const char *archive_read(const uint8_t *file, size_t size, archive *found);

/* The member of that name, or NULL. */
const archive_member *archive_get(const archive *in, const char *name);

uint32_t archive_crc(const uint8_t *bytes, size_t size);

#endif
