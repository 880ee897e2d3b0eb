/* How fast a device is read: for profiles, without an interpreter in the way. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool.h"

enum { HUGE = 2 << 20, MOST = 16 };

typedef struct {
  int32_t file, anywhere;
  int64_t block, blocks, until;
  uint8_t *to; /* one behind the other, a block for each reader */
  _Atomic int64_t readers, next, bytes, wrong;
} reading;

static void *reader(void *argument) {
  reading *r = argument;
  uint8_t *to = r->to + atomic_fetch_add(&r->readers, 1) * r->block;
  while (edgert_now_ns() < r->until && !atomic_load(&r->wrong)) {
    uint64_t number = (uint64_t)atomic_fetch_add(&r->next, 1);
    if (r->anywhere) { /* splitmix64 */
      number = (number + 1) * 0x9E3779B97F4A7C15u;
      number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9u;
      number = (number ^ number >> 27) * 0x94D049BB133111EBu;
      number ^= number >> 31;
    }
    ssize_t got = pread(r->file, to, (size_t)r->block, (off_t)((int64_t)(number % (uint64_t)r->blocks) * r->block));
    if (got < 0) atomic_store(&r->wrong, errno);
    else atomic_fetch_add(&r->bytes, got);
  }
  return NULL;
}

/* `depth` threads read blocks of the first `size` bytes of an open file, in turn or from anywhere, for so long. Gives
 * the bytes read and the time taken, or -errno. */
int64_t edgert_timed_reads(int32_t file, int64_t size, int64_t block, int64_t depth, int32_t anywhere, int64_t ns,
                           int64_t *taken_ns) {
  int64_t start = edgert_now_ns(), count = 0;
  reading r = {.file = file, .anywhere = anywhere, .block = block, .blocks = size / block, .until = start + ns};
  pthread_t threads[MOST];
  if (r.blocks < 1 || depth < 1 || depth > MOST) return -EINVAL;
  int64_t room = (depth * block + HUGE - 1) / HUGE * HUGE;
  if (posix_memalign((void **)&r.to, HUGE, (size_t)room)) return -ENOMEM;
  madvise(r.to, (size_t)room, MADV_HUGEPAGE); /* as the ring of stream.c: devices take fewer and larger pieces */
  while (count < depth && !pthread_create(&threads[count], NULL, reader, &r)) count++;
  if (count < depth) atomic_store(&r.wrong, EAGAIN);
  while (count) pthread_join(threads[--count], NULL);
  *taken_ns = edgert_now_ns() - start;
  free(r.to);
  return r.wrong ? -r.wrong : r.bytes;
}
