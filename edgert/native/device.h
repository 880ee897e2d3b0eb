/* What the runner does on a device for `edgert deploy` (edgert/deploy). Each leaves when it fails. */
#ifndef EDGERT_DEVICE_H
#define EDGERT_DEVICE_H
#include <stdint.h>

/* Prints what this machine is, has free, and how much of the file `part` (or NULL) is there, as one JSON object. */
void print_machine(const char *folder, const char *part);
/* Prints an artifact's manifest and where its members are, as one JSON object. */
void print_members(const char *path);
/* Appends to the first `there` bytes of `part` what standard input says: C from size (copy of bytes of `old`), D size bytes, E; numbers are 8 bytes,
 * little endian. */
void assemble(const char *part, const char *old, int64_t there);
/* Puts `part`, if its SHA-256 is that, in the place of `path`, whose file stays as `path`.previous. */
void install(const char *part, const char *path, const char *sha256);
/* Exchanges `path` and `path`.previous. */
void roll_back(const char *path);

#endif
