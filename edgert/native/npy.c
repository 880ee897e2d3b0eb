#include "npy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char MAGIC[] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y'};

/* Where the value of 'key' starts in the header's text, or NULL. */
static const char *value_of(const char *text, const char *key) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "'%s':", key);
  const char *at = strstr(text, quoted);
  if (!at) return NULL;
  at += strlen(quoted);
  return at + strspn(at, " ");
}

static const char *read_shape(const char *at, npy_array *array) {
  if (!at || *at++ != '(') return "its header has no shape";
  array->rank = 0;
  array->count = 1;
  for (;;) {
    at += strspn(at, ", ");
    if (*at == ')') return NULL;
    if (*at < '0' || *at > '9' || array->rank == NPY_MOST_RANK) return "its shape cannot be read";
    char *end;
    unsigned long long extent = strtoull(at, &end, 10);
    if (extent > (1ull << 46)) return "its shape is too large";
    array->shape[array->rank++] = (int64_t)extent;
    if (__builtin_mul_overflow(array->count, (int64_t)extent, &array->count)) return "its shape is too large";
    at = end;
  }
}

const char *npy_read(const uint8_t *file, size_t size, npy_array *array) {
  if (size < 12 || memcmp(file, MAGIC, sizeof MAGIC)) return "not an .npy file";
  size_t start = file[6] == 1 ? 10 : 12, length = file[8] | (size_t)file[9] << 8;
  if (file[6] < 1 || file[6] > 3) return "a version of .npy that is not known";
  if (start == 12) length |= (size_t)file[10] << 16 | (size_t)file[11] << 24;
  if (length > size - start || length >= NPY_MOST_HEADER) return "its header is cut short or too long";
  char text[NPY_MOST_HEADER];
  memcpy(text, file + start, length);
  text[length] = 0;
  const char *descr = value_of(text, "descr"), *order = value_of(text, "fortran_order");
  const char *close = descr && *descr == '\'' ? strchr(descr + 1, '\'') : NULL;
  if (!close || close - descr - 1 >= (ptrdiff_t)sizeof array->descr) return "it does not hold plain numbers";
  memcpy(array->descr, descr + 1, close - descr - 1);
  array->descr[close - descr - 1] = 0;
  if (!order) return "its header has no order";
  array->fortran = !strncmp(order, "True", 4);
  const char *fault = read_shape(value_of(text, "shape"), array);
  if (fault) return fault;
  array->data = file + start + length;
  int64_t item = strlen(array->descr) > 2 ? atoi(array->descr + 2) : 0, bytes;
  if (item < 1) return "it does not hold plain numbers";
  if (__builtin_mul_overflow(array->count, item, &bytes) || bytes != (int64_t)(size - start - length))
    return "its data is not as long as its header says";
  return NULL;
}

size_t npy_header(uint8_t *to, const char *descr, int32_t rank, const int64_t *shape) {
  char *text = (char *)to + 10;
  size_t room = NPY_MOST_HEADER - 10;
  size_t used = snprintf(text, room, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (int32_t i = 0; i < rank; i++) used += snprintf(text + used, room - used, i ? ", %" PRId64 : "%" PRId64, shape[i]);
  used += snprintf(text + used, room - used, rank == 1 ? ",), }" : "), }");
  /* numpy leaves room for the first extent to grow to 21 digits, then pads to 64 bytes with at least one byte. */
  size_t digits = rank ? (size_t)snprintf(NULL, 0, "%" PRId64, shape[0]) : 21;
  size_t spaces = 21 - digits;
  spaces += 64 - (10 + used + spaces + 1) % 64;
  memset(text + used, ' ', spaces);
  used += spaces;
  text[used++] = '\n';
  memcpy(to, (const uint8_t[10]){0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, used & 255, used >> 8}, 10);
  return used + 10;
}

int npy_write(FILE *out, const char *descr, int32_t item_bytes, int32_t rank, const int64_t *shape, const void *data) {
  uint8_t header[NPY_MOST_HEADER];
  size_t bytes = npy_header(header, descr, rank, shape), count = 1;
  for (int32_t i = 0; i < rank; i++) count *= shape[i];
  return fwrite(header, 1, bytes, out) != bytes || fwrite(data, item_bytes, count, out) != count;
}
