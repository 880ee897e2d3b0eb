#define _GNU_SOURCE
#include "coded.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "coding.h"

enum { PAGE = 4096 };

typedef struct scratch {
  struct scratch *next; /* of those that nobody uses */
} scratch;

typedef struct {
  edgert_source source;
  edgert_source *from;
  pthread_mutex_t lock;
  scratch *free;
  int64_t room, count; /* room: bytes of a scratch, behind its first page: the largest segment, coded and decoded */
  int64_t largest;     /* bytes of the largest coded segment, in whole pages */
  edgert_coded_segment segments[];
} coded_source;

static int64_t pages(int64_t n) { return (n + PAGE - 1) / PAGE * PAGE; }

static scratch *borrow(coded_source *c) {
  pthread_mutex_lock(&c->lock);
  scratch *found = c->free;
  if (found) c->free = found->next;
  pthread_mutex_unlock(&c->lock);
  if (!found && posix_memalign((void **)&found, PAGE, (size_t)(PAGE + c->room))) return NULL;
  return found;
}

static void give_back(coded_source *c, scratch *used) {
  pthread_mutex_lock(&c->lock);
  used->next = c->free;
  c->free = used;
  pthread_mutex_unlock(&c->lock);
}

/* Reads exactly n bytes. Gives n or -errno. */
static int64_t read_all(coded_source *c, int64_t at, uint8_t *to, int64_t n) {
  for (int64_t done = 0, again = 0; done < n;) {
    int64_t got = c->from->read(c->from, at + done, to + done, pages(n) - done), before = done;
    if ((got == -EINTR || got == -EAGAIN) && again++ < 100) continue;
    if (got < 0) return got;
    done = done + got >= n ? n : (done + got) / PAGE * PAGE; /* ask again from a page's start */
    if (done == before) return -ENODATA;
  }
  return n;
}

/* Bytes [from, from + n) of a segment. Gives n or -errno; damaged ones come as zeros, which no hash takes for right. */
static int64_t read_segment(coded_source *c, const edgert_coded_segment *s, int64_t from, uint8_t *to, int64_t n) {
  if (!s->coded) return read_all(c, s->at + from, to, n);
  scratch *used = borrow(c);
  if (!used) return -ENOMEM;
  uint8_t *bytes = (uint8_t *)used + PAGE, *whole = from || n < s->size ? bytes + c->largest + PAGE : to;
  int64_t got = read_all(c, s->at, bytes, s->bytes);
  if (got > 0) {
    if (edgert_decode(bytes, s->bytes, whole, s->size)) memset(whole, 0, (size_t)s->size);
    if (whole != to) memcpy(to, whole + from, (size_t)n);
    got = n;
  }
  give_back(c, used);
  return got;
}

static int64_t coded_read(edgert_source *self, int64_t offset, void *to, int64_t n) {
  coded_source *c = (coded_source *)self;
  int64_t low = 0, high = c->count, done = 0;
  while (low < high) { /* the first segment that ends behind the offset */
    int64_t middle = (low + high) / 2;
    if (c->segments[middle].offset + c->segments[middle].size <= offset) low = middle + 1;
    else high = middle;
  }
  for (; low < c->count && done < n; low++) {
    const edgert_coded_segment *s = &c->segments[low];
    int64_t from = offset + done - s->offset, left = s->size - from < n - done ? s->size - from : n - done;
    int64_t got = read_segment(c, s, from, (uint8_t *)to + done, left);
    if (got == -ENODATA) return done;
    if (got < 0) return done ? done : got;
    done += left;
  }
  return done;
}

static void coded_close(edgert_source *self) {
  coded_source *c = (coded_source *)self;
  for (scratch *next; c->free; c->free = next) {
    next = c->free->next;
    free(c->free);
  }
  c->from->close(c->from);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

edgert_source *edgert_source_coded(edgert_source *from, const edgert_coded_segment *segments, int64_t count) {
  coded_source *c = calloc(1, sizeof *c + (size_t)count * sizeof *segments);
  if (!c) {
    from->close(from);
    return NULL;
  }
  c->source = (edgert_source){coded_read, coded_close, PAGE};
  c->from = from;
  c->count = count;
  memcpy(c->segments, segments, (size_t)count * sizeof *segments);
  int64_t decoded = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!segments[i].coded) continue;
    if (pages(segments[i].bytes) > c->largest) c->largest = pages(segments[i].bytes);
    if (segments[i].size > decoded) decoded = segments[i].size;
  }
  c->room = c->largest + PAGE + pages(decoded);
  pthread_mutex_init(&c->lock, NULL);
  return &c->source;
}
