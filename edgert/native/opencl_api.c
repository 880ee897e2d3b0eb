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
