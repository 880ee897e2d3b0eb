#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

int64_t core_count(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

void check_features(const char *const *features) {
  if (!*features) return;
  static char line[16384]; /* the longest flags line known is some 3 KB */
  const char *flags = NULL;
  FILE *file = fopen("/proc/cpuinfo", "r");
  while (file && !flags && fgets(line, sizeof line, file))
    if (!strncmp(line, "flags", 5) || !strncmp(line, "Features", 8)) flags = strchr(line, ':');
  if (file) fclose(file);
  for (; *features; features++) {
    size_t length = strlen(*features);
    const char *at = flags;
    while (at && (at = strstr(at, *features)) && (at[-1] > ' ' || at[length] > ' ')) at += length;
    if (!at) fail(FAILED, "needs %s, which this processor lacks: compile with another --target", *features);
    if (!strncmp(*features, "amx_", 4) && edgert_rt_permit_amx()) fail(FAILED, "needs AMX, which is not permitted here");
  }
}
