#define _GNU_SOURCE
#include "device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "digest.h"
#include "opened.h"

enum { BLOCK = 1 << 18 };

void print_machine(const char *folder, const char *part) {
  struct statvfs disk;
  struct stat status;
  if (statvfs(folder, &disk)) fail(FAILED, "%s: %s", folder, strerror(errno));
  printf("{\"machine\": \"%s\", \"features\": [", machine_name());
  print_features();
  printf("], \"cores\": %lld, \"memory\": %lld, \"disk\": %lld, \"part\": %lld}\n", (long long)core_count(), free_memory(),
         (long long)disk.f_bavail * (long long)disk.f_frsize, part && !stat(part, &status) ? (long long)status.st_size : 0LL);
}

void print_members(const char *path) {
  opened o;
  open_container(&o, path);
  printf("{\"members\": {");
  for (int64_t i = 1; i < o.members.count; i++) {
    const archive_member *m = &o.members.members[i];
    for (int32_t k = 0; k < m->length; k++)
      if (m->name[k] == '"' || m->name[k] == '\\' || (uint8_t)m->name[k] < 0x20) damaged(&o, "a member's name has a strange character");
    printf("%s\"%.*s\": [%lld, %lld]", i > 1 ? ", " : "", m->length, m->name, (long long)m->data, (long long)m->size);
  }
  const archive_member *manifest = o.members.members;
  printf("}, \"manifest\": %.*s}\n", (int)manifest->size, o.file + manifest->data);
}

static void take(void *to, size_t bytes) {
  if (fread(to, 1, bytes, stdin) != bytes) fail(FAILED, "the transfer broke off");
}

static void append(int file, const char *path, const uint8_t *bytes, uint64_t count) {
  while (count) {
    ssize_t done = write(file, bytes, count < BLOCK ? count : BLOCK);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail(FAILED, "cannot write %s: %s", path, strerror(errno));
    bytes += done;
    count -= (uint64_t)done;
  }
}

void assemble(const char *part, const char *old, int64_t there) {
  static uint8_t block[BLOCK];
  const uint8_t *from = NULL;
  size_t bytes = 0;
  int file = open(part, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  struct stat status;
  /* A program whose connection broke may still be writing; what it wrote more than was told is dropped. */
  if (file < 0 || flock(file, LOCK_EX) || fstat(file, &status)) fail(FAILED, "cannot write %s: %s", part, strerror(errno));
  if (status.st_size < there || ftruncate(file, (off_t)there)) fail(FAILED, "%s is not what it was: try again", part);
  for (;;) {
    char kind;
    uint64_t offset, size;
    take(&kind, 1);
    if (kind == 'E') break;
    if (kind == 'C') {
      if (!from) from = map_file(old, &bytes);
      take(&offset, sizeof offset);
      take(&size, sizeof size);
      if (offset > bytes || size > bytes - offset) fail(FAILED, "%s is not the file that it was", old);
      append(file, part, from + offset, size);
    } else if (kind == 'D') {
      take(&size, sizeof size);
      while (size) { /* what came is kept when the connection breaks, hence no full blocks */
        size_t got = fread(block, 1, size < BLOCK / 8 ? size : BLOCK / 8, stdin);
        append(file, part, block, got);
        if (!got) fail(FAILED, "the transfer broke off");
        size -= got;
      }
    } else fail(FAILED, "the transfer is damaged");
  }
  if (close(file)) fail(FAILED, "cannot write %s: %s", part, strerror(errno));
}

static void move(const char *from, const char *to) {
  if (rename(from, to)) fail(FAILED, "cannot write %s: %s", to, strerror(errno));
}

/* `to` becomes another name of the file at `path`, or, where a file has only one, its name. */
static void keep(const char *path, const char *to) {
  unlink(to);
  if (link(path, to) && errno != ENOENT) move(path, to);
}

static void sync_folder(const char *path) {
  char *copy = strdup(path);
  int folder = copy ? open(dirname(copy), O_RDONLY | O_CLOEXEC) : -1;
  if (folder >= 0) fsync(folder);
  if (folder >= 0) close(folder);
  free(copy);
}

/* Removes parts of transfers of this artifact that were never finished: files NAME.*.part beside `part`. */
static void forget_parts(const char *part, const char *path) {
  char *folder = strdup(part), *copy = strdup(path), name[512];
  DIR *open = folder ? opendir(dirname(folder)) : NULL;
  size_t length = copy ? (size_t)snprintf(name, sizeof name, "%s.", basename(copy)) : sizeof name;
  for (struct dirent *entry; open && length < sizeof name && (entry = readdir(open));) {
    size_t all = strlen(entry->d_name); /* 16 digits of the hash, and an ending */
    if (all == length + 21 && !strncmp(entry->d_name, name, length) && !strcmp(entry->d_name + all - 5, ".part"))
      unlinkat(dirfd(open), entry->d_name, 0);
  }
  if (open) closedir(open);
  free(folder);
  free(copy);
}

static void with_ending(char *to, const char *path, const char *ending) {
  if (snprintf(to, 4096, "%s%s", path, ending) >= 4096) fail(WRONG_USE, "the path %s is too long", path);
}

void install(const char *part, const char *path, const char *sha256) {
  char text[65], previous[4096];
  uint8_t digest[32];
  size_t size;
  const uint8_t *bytes = map_file(part, &size);
  edgert_sha256(bytes, (int64_t)size, digest);
  for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  if (strcmp(text, sha256)) {
    unlink(part);
    fail(FAILED, "%s arrived damaged: send it again", path);
  }
  int file = open(part, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fsync(file)) fail(FAILED, "cannot write %s: %s", part, strerror(errno));
  close(file);
  with_ending(previous, path, ".previous");
  keep(path, previous);
  move(part, path);
  forget_parts(part, path);
  sync_folder(path);
}

void roll_back(const char *path) {
  char previous[4096], between[4096];
  with_ending(previous, path, ".previous");
  with_ending(between, path, ".between");
  if (access(previous, F_OK)) fail(FAILED, "%s has no previous version", path);
  keep(path, between);
  move(previous, path);
  if (!access(between, F_OK)) move(between, previous);
  sync_folder(path);
}
