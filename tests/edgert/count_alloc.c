/* Preloaded: counts every call to the allocator and to mmap, by any thread, while a model runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime.h"

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), __libc_free(void *);

static _Atomic int64_t calls;

void *malloc(size_t n) { return calls++, __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return calls++, __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return calls++, __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { return calls++, __libc_memalign(a, n); }
void *memalign(size_t a, size_t n) { return calls++, __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) { return calls++, !(*p = __libc_memalign(a, n)); }
void free(void *p) { calls += p != 0, __libc_free(p); }
void *mmap(void *a, size_t n, int p, int f, int d, long o) {
  return calls++, (void *)syscall(SYS_mmap, a, n, p, f, d, o);
}

/* Calls made during `runs` runs. */
int64_t count_during(int32_t (*run)(edgert_rt *, edgert_entry, uint8_t *, const uint8_t *, void *const *, int64_t *,
                                    int64_t *, int64_t),
                     edgert_rt *rt, edgert_entry entry, uint8_t *arena, const uint8_t *weights, void *const *io,
                     int64_t *dims, int64_t *profile, int64_t steps, int64_t runs) {
  int64_t before = calls;
  for (int64_t i = 0; i < runs; i++)
    if (run(rt, entry, arena, weights, io, dims, profile, steps)) return -1;
  return calls - before;
}

int64_t count_all(void) { return calls; }
