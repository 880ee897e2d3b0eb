/* A source that does what devices do on bad days, at one place of the file or at every read. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "source.h"

enum { EIO_AT, FLIP_AT, STALL_AT, SHORT, INTERRUPTED, AGAIN, END_AT };

typedef struct {
  edgert_source source;
  edgert_source *from;
  int64_t kind, at, times; /* at the byte `at`, and only so many times */
  _Atomic int64_t calls, met;
} faulty;

static int64_t faulty_read(edgert_source *self, int64_t offset, void *to, int64_t n) {
  faulty *f = (faulty *)self;
  int64_t call = f->calls++;
  int meets = f->at >= offset && f->at < offset + n && f->met < f->times;
  switch (f->kind) {
    case SHORT: n = call % 3 ? (n > 4096 ? n / 4096 / 2 * 4096 : n) : n; break;
    case INTERRUPTED: if (call % 2) return -EINTR; break;
    case AGAIN: if (call % 2) return -EAGAIN; break;
    default: break;
  }
  if (meets) f->met++;
  if (meets && f->kind == EIO_AT) return -EIO;
  if (meets && f->kind == END_AT) return 0;
  if (meets && f->kind == STALL_AT) nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
  int64_t got = f->from->read(f->from, offset, to, n);
  if (meets && f->kind == FLIP_AT && f->at < offset + got) ((unsigned char *)to)[f->at - offset] ^= 4;
  if (f->kind == SHORT && got > 5000 && call % 5 == 1) got = 5000; /* not even a page's end */
  return got;
}

static void faulty_close(edgert_source *self) {
  faulty *f = (faulty *)self;
  f->from->close(f->from);
  free(f);
}

edgert_source *faulty_source(edgert_source *from, int64_t kind, int64_t at, int64_t times) {
  faulty *f = calloc(1, sizeof *f);
  f->source = (edgert_source){faulty_read, faulty_close, from->align};
  f->from = from;
  f->kind = kind;
  f->at = at;
  f->times = times;
  return &f->source;
}

int64_t faulty_met(const edgert_source *self) { return ((const faulty *)self)->met; }
int64_t faulty_calls(const edgert_source *self) { return ((const faulty *)self)->calls; }
