/* .npy files of version 1.0 to 3.0, read in place and written as numpy writes them. */
#ifndef EDGERT_NPY_H
#define EDGERT_NPY_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { NPY_MOST_RANK = 32, NPY_MOST_HEADER = 1024 };

typedef struct {
  char descr[8];
  int32_t fortran;
  int32_t rank;
  int64_t shape[NPY_MOST_RANK];
  int64_t count;       /* elements */
  const uint8_t *data; /* in the bytes given, count * item bytes of them */
} npy_array;

/* Finds the array in size bytes at file. NULL when right, else what is wrong. */
const char *npy_read(const uint8_t *file, size_t size, npy_array *array);

/* The header of a C-ordered array, to NPY_MOST_HEADER bytes at `to`. Gives its bytes. */
size_t npy_header(uint8_t *to, const char *descr, int32_t rank, const int64_t *shape);

/* Writes a C-ordered array, byte for byte as numpy.save does. 0 when right. */
int npy_write(FILE *out, const char *descr, int32_t item_bytes, int32_t rank, const int64_t *shape, const void *data);

#endif
