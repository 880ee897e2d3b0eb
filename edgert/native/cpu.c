#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "program.h"

int64_t core_count(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

#ifdef __x86_64__
/* Whether the kernel lists the feature among /proc/cpuinfo's flags. */
static int has_feature(const char *feature) {
  static char line[16384]; /* the longest flags line known is some 3 KB */
  static const char *flags;
  FILE *file = flags ? NULL : fopen("/proc/cpuinfo", "r");
  while (file && !flags && fgets(line, sizeof line, file))
    if (!strncmp(line, "flags", 5)) flags = strchr(line, ':');
  if (file) fclose(file);
  size_t length = strlen(feature);
  const char *at = flags;
  while (at && (at = strstr(at, feature)) && (at[-1] > ' ' || at[length] > ' ')) at += length;
  return at != NULL;
}
#else
/* Whether the kernel says so in the auxiliary vector, where an emulator tells its own features, too. Names and bits:
 * Linux, Documentation/arch/arm64/elf_hwcaps.rst. */
static int has_feature(const char *feature) {
  static const struct {
    const char *name;
    unsigned long type;
    int bit;
  } known[] = {{"fp", AT_HWCAP, 0},       {"asimd", AT_HWCAP, 1},    {"fphp", AT_HWCAP, 9},
               {"asimdhp", AT_HWCAP, 10}, {"asimddp", AT_HWCAP, 20}, {"i8mm", AT_HWCAP2, 13}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(known[i].name, feature)) return getauxval(known[i].type) >> known[i].bit & 1;
  return 0;
}
#endif

void check_features(const char *const *features) {
  for (; *features; features++) {
    if (!has_feature(*features))
      fail(FAILED, "needs %s, which this processor lacks: compile with another --target", *features);
    if (!strncmp(*features, "amx_", 4) && edgert_rt_permit_amx()) fail(FAILED, "needs AMX, which is not permitted here");
  }
}
