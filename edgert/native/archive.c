#include "archive.h"

#include <string.h>

#include "program.h"

enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR64 = 20, ALIGN = 64, MOST_MEMBERS = 10000 };
enum { MOST_HEADER = LOCAL + 65535 + 20 + 2 * ARCHIVE_PAGE, MOST_ENTRY = CENTRAL + 65535 + 28 };
static const uint32_t MOST32 = 0xFFFFFFFF;

static uint64_t get(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes; i--;) value = value << 8 | at[i];
  return value;
}

/* Numbers of so many bytes each, as a string of digits says. Gives where the next goes. */
static uint8_t *put(uint8_t *to, const char *bytes, const uint64_t *values) {
  for (; *bytes; bytes++, values++)
    for (int i = 0; i < *bytes - '0'; i++) *to++ = (uint8_t)(*values >> (8 * i));
  return to;
}

static int is_paged(const archive_member *m) { return m->length == 11 && !memcmp(m->name, "weights.bin", 11); }

/* Bytes of padding behind `position`: none, or at least the 6 of an empty field. */
static int64_t padding(int64_t position, int64_t align) {
  int64_t pad = (align - position % align) % align;
  return pad > 0 && pad < 6 ? pad + align : pad;
}

/* Places the members one after another; gives where the directory begins. */
static int64_t place(archive *a, int zip64) {
  int64_t position = 0;
  for (archive_member *m = a->members; m < a->members + a->count; m++) {
    int64_t fixed = position + LOCAL + m->length + (zip64 ? 20 : 0);
    m->header = position;
    m->data = fixed + padding(fixed, is_paged(m) ? ARCHIVE_PAGE : ALIGN);
    position = m->data + m->size;
  }
  return position;
}

/* The header of a member as it must be, at `to`; gives its bytes. */
static int64_t local_header(const archive_member *m, int zip64, uint8_t *to) {
  uint8_t *at = to;
  uint64_t size = zip64 ? MOST32 : (uint64_t)m->size, extra = m->data - m->header - LOCAL - m->length;
  at = put(at, "42222244422", (uint64_t[]){0x04034B50, zip64 ? 45 : 20, 0x0800, 0, 0, 0x21, m->crc, size, size, m->length, extra});
  memcpy(at, m->name, m->length);
  at += m->length;
  if (zip64) at = put(at, "2288", (uint64_t[]){1, 16, m->size, m->size});
  int64_t pad = m->data - m->header - (at - to);
  memset(at, 0, pad);
  if (pad) put(at, "222", (uint64_t[]){0xD935, pad - 4, is_paged(m) ? ARCHIVE_PAGE : ALIGN});
  return at + pad - to;
}

static int64_t directory_entry(const archive_member *m, int zip64, uint8_t *to) {
  uint8_t *at = to;
  uint64_t size = zip64 ? MOST32 : (uint64_t)m->size, header = zip64 ? MOST32 : (uint64_t)m->header, need = zip64 ? 45 : 20;
  at = put(at, "42222224442222244", (uint64_t[]){0x02014B50, need, need, 0x0800, 0, 0, 0x21, m->crc, size, size, m->length,
                                                 zip64 ? 28 : 0, 0, 0, 0, 0, header});
  memcpy(at, m->name, m->length);
  at += m->length;
  if (zip64) at = put(at, "22888", (uint64_t[]){1, 24, m->size, m->size, m->header});
  return at - to;
}

static int64_t end_records(const archive *a, int zip64, int64_t start, int64_t length, uint8_t *to) {
  uint8_t *at = to;
  uint64_t count = a->count;
  if (zip64) {
    at = put(at, "4822448888", (uint64_t[]){0x06064B50, END64 - 12, 45, 45, 0, 0, count, count, length, start});
    at = put(at, "4484", (uint64_t[]){0x07064B50, 0, start + length, 1});
  }
  at = put(at, "42222442", (uint64_t[]){0x06054B50, 0, 0, count, count, length, zip64 ? MOST32 : (uint64_t)start, 0});
  return at - to;
}

/* Rebuilds every header from the members and compares it with the file's. */
static const char *compare(const uint8_t *file, size_t size, archive *a, int64_t start) {
  uint8_t *made = anonymous(MOST_HEADER > MOST_ENTRY ? MOST_HEADER : MOST_ENTRY, "headers");
  int zip64 = place(a, 0) >= MOST32;
  if (place(a, zip64) != start) return "its directory is damaged";
  int64_t position = start;
  for (const archive_member *m = a->members; m < a->members + a->count; m++) {
    int64_t entry = directory_entry(m, zip64, made);
    if (position + entry > (int64_t)size || memcmp(made, file + position, entry)) return "its directory is damaged";
    position += entry;
    int64_t header = local_header(m, zip64, made);
    if (memcmp(made, file + m->header, header)) return "a member's header is damaged";
    for (const archive_member *other = a->members; other < m; other++)
      if (other->length == m->length && !memcmp(other->name, m->name, m->length)) return "a member is there twice";
  }
  int64_t end = end_records(a, zip64, start, position - start, made);
  if (position + end != (int64_t)size || memcmp(made, file + position, end)) return "its directory is damaged";
  return NULL;
}

const char *archive_read(const uint8_t *file, size_t size, archive *found) {
  if (size < END) return "it is too short";
  const uint8_t *end = file + size - END;
  if (get(end, 4) != 0x06054B50) return "its end is missing (cut short, or followed by something else)";
  uint64_t length = get(end + 12, 4), start = get(end + 16, 4), tail = END;
  if (start == MOST32) {
    tail += END64 + LOCATOR64;
    if (size < tail) return "its ZIP64 end record is missing";
    start = get(file + size - tail + 48, 8);
  }
  if (start > size || start + length + tail != size) return "its directory does not end where the file ends";
  found->members = anonymous(MOST_MEMBERS * (int64_t)sizeof *found->members, "the list of members");
  found->count = 0;
  for (uint64_t position = start, stop = start + length; position < stop; found->count++) {
    const uint8_t *at = file + position;
    if (position + CENTRAL > stop || found->count == MOST_MEMBERS) return "its directory is damaged";
    uint64_t name = get(at + 28, 2), extra = get(at + 30, 2), bytes = get(at + 24, 4);
    position += CENTRAL + name + extra;
    if (position > stop) return "its directory is damaged";
    if (bytes == MOST32 && extra == 28) bytes = get(at + CENTRAL + name + 4, 8);
    if (bytes > start) return "its directory is damaged"; /* so that sums below do not overflow */
    found->members[found->count] =
        (archive_member){(const char *)at + CENTRAL, (int32_t)name, (uint32_t)get(at + 16, 4), (int64_t)bytes, 0, 0};
  }
  return compare(file, size, found, (int64_t)start);
}

const archive_member *archive_get(const archive *in, const char *name) {
  for (const archive_member *m = in->members; m < in->members + in->count; m++)
    if ((size_t)m->length == strlen(name) && !memcmp(m->name, name, m->length)) return m;
  return NULL;
}

uint32_t archive_crc(const uint8_t *bytes, size_t size) {
  uint32_t crc = MOST32;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}
