/* Weights that lie coded in their file, read as if they did not. */
#ifndef EDGERT_CODED_H
#define EDGERT_CODED_H
#include "source.h"

typedef struct {
  int64_t offset, size; /* of the decoded bytes; segments follow one another from 0 on, all but the last whole pages */
  int64_t at, bytes;    /* where they lie in the source, coded; `at` is a whole number of pages */
  int64_t coded;        /* 0: as they are */
} edgert_coded_segment;

/* A source of the decoded bytes. Whole segments are decoded to where they are wanted, by the thread that reads. Takes
 * `from`, and copies `segments` (count of them); NULL when there is no memory. */
edgert_source *edgert_source_coded(edgert_source *from, const edgert_coded_segment *segments, int64_t count);

#endif
