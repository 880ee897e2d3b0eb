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

const char *machine_name(void) {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#elif defined(__arm__)
  return "armv7";
#else
  return "riscv64";
#endif
}

#ifdef __x86_64__
/* The features that the kernel lists among /proc/cpuinfo's flags, each behind a space. */
static const char *feature_list(void) {
  static char line[16384]; /* the longest flags line known is some 3 KB */
  static const char *flags;
  FILE *file = flags ? NULL : fopen("/proc/cpuinfo", "r");
  while (file && !flags && fgets(line, sizeof line, file))
    if (!strncmp(line, "flags", 5) && (flags = strchr(line, ':'))) line[strcspn(line, "\n")] = 0;
  if (file) fclose(file);
  return flags ? flags + 1 : "";
}
#else
/* Those that the kernel tells in the auxiliary vector, where an emulator tells its own, too. Names and bits: Linux,
 * Documentation/arch/arm64/elf_hwcaps.rst, arch/arm/include/uapi/asm/hwcap.h. */
static const char *feature_list(void) {
  static const struct {
    const char *name;
    unsigned long type;
    int bit;
  } known[] = {
#if defined(__aarch64__)
      {"fp", AT_HWCAP, 0},       {"asimd", AT_HWCAP, 1},    {"fphp", AT_HWCAP, 9},
      {"asimdhp", AT_HWCAP, 10}, {"asimddp", AT_HWCAP, 20}, {"i8mm", AT_HWCAP2, 13}
#elif defined(__arm__)
      {"neon", AT_HWCAP, 12}, {"vfpv3", AT_HWCAP, 13}, {"vfpv4", AT_HWCAP, 16}, {"idiva", AT_HWCAP, 17}
#else
      {"f", AT_HWCAP, 5}, {"d", AT_HWCAP, 3}, {"c", AT_HWCAP, 2}, {"v", AT_HWCAP, 21}
#endif
  };
  static char list[128];
  if (*list) return list;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (getauxval(known[i].type) >> known[i].bit & 1) strcat(strcat(list, " "), known[i].name);
  return list;
}
#endif

static int has_feature(const char *feature) {
  size_t length = strlen(feature);
  for (const char *at = feature_list(); (at = strstr(at, feature)); at += length)
    if (at[-1] == ' ' && (!at[length] || at[length] == ' ')) return 1;
  return 0;
}

void print_features(void) {
  const char *at = feature_list();
  for (int first = 1; at += strspn(at, " "), *at; first = 0, at += strcspn(at, " "))
    printf("%s\"%.*s\"", first ? "" : ", ", (int)strcspn(at, " "), at);
}

const char *missing_feature(const char *const *features) {
  for (; *features; features++)
    if (!has_feature(*features) || (!strncmp(*features, "amx_", 4) && edgert_rt_permit_amx())) return *features;
  return NULL;
}

void check_features(const char *const *features) {
  const char *missing = missing_feature(features);
  if (missing && has_feature(missing)) fail(FAILED, "needs AMX, which is not permitted here");
  if (missing) fail(FAILED, "needs %s, which this processor lacks: compile with another --target", missing);
}
