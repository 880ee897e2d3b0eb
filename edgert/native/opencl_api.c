#define _GNU_SOURCE
#include "opencl_api.h"

#include <dlfcn.h>
#include <string.h>

const char *edgert_opencl_find(const char *library, edgert_opencl_api *api) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return "it cannot be loaded";
#define X(name, result, parameters)           \
  {                                           \
    void *found = dlsym(handle, #name);       \
    if (!found) return "it has no " #name;    \
    memcpy(&api->name, &found, sizeof found); \
  }
  EDGERT_OPENCL_FUNCTIONS(X)
#undef X
  return NULL;
}

static const int SIGNALS[EDGERT_SIGNALS] = {SIGSEGV, SIGFPE, SIGBUS, SIGILL, SIGUSR2};

void edgert_signals_keep(edgert_signals *kept) {
  for (int i = 0; i < EDGERT_SIGNALS; i++) sigaction(SIGNALS[i], NULL, &kept->was[i]);
}

void edgert_signals_restore(const edgert_signals *kept) {
  for (int i = 0; i < EDGERT_SIGNALS; i++) sigaction(SIGNALS[i], &kept->was[i], NULL);
}
