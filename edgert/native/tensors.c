#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

static const char *show(int32_t rank, const int64_t *shape, char *text, size_t size) {
  size_t used = snprintf(text, size, "[");
  for (int32_t i = 0; i < rank && used < size; i++)
    used += snprintf(text + used, size - used, i ? ", %lld" : "%lld", (long long)shape[i]);
  if (used < size) snprintf(text + used, size - used, "]");
  return text;
}

/* A copy in C order of an array in Fortran order. */
static const uint8_t *transpose(const npy_array *array, int32_t item) {
  uint8_t *copy = anonymous(array->count * item, "an input");
  int64_t index[NPY_MOST_RANK] = {0};
  for (int64_t i = 0; i < array->count; i++) { /* i counts in Fortran order: the first index runs fastest */
    int64_t at = 0;
    for (int32_t k = 0; k < array->rank; k++) at = at * array->shape[k] + index[k];
    memcpy(copy + at * item, array->data + i * item, item);
    for (int32_t k = 0; k < array->rank && ++index[k] == array->shape[k]; k++) index[k] = 0;
  }
  return copy;
}

void bind_input(session *s, int64_t index, const uint8_t *file, size_t size, const char *source, const char **owner) {
  const edgert_tensor *tensor = &s->model->inputs[index];
  npy_array array;
  char text[512];
  const char *fault = npy_read(file, size, &array);
  if (fault) fail(FAILED, "%s: %s", source, fault);
  if (strcmp(array.descr, tensor->descr))
    fail(WRONG_USE, "input '%s' is %s, expected %s", tensor->name, array.descr, tensor->descr);
  int wrong = array.rank != tensor->rank;
  for (int32_t i = 0; i < array.rank && !wrong; i++) {
    int32_t slot = tensor->shape[i].slot;
    int64_t extent = array.shape[i];
    if (slot < 0) {
      wrong = extent != tensor->shape[i].extent;
      continue;
    }
    const edgert_dim *dim = &s->model->dims[slot];
    if (extent < dim->min || extent > dim->max)
      fail(WRONG_USE, "input '%s' has %s = %lld, the model was compiled for %lld to %lld", tensor->name, dim->name,
           (long long)extent, (long long)dim->min, (long long)dim->max);
    if (owner[slot] && s->dims[slot] != extent)
      fail(WRONG_USE, "%s is %lld in input '%s' but %lld in '%s': give the same", dim->name, (long long)extent,
           tensor->name, (long long)s->dims[slot], owner[slot]);
    s->dims[slot] = extent;
    owner[slot] = tensor->name;
  }
  if (wrong)
    fail(WRONG_USE, "input '%s' has shape %s: see --help for what is expected", tensor->name,
         show(array.rank, array.shape, text, sizeof text));
  s->io[index] = (void *)(array.fortran ? transpose(&array, tensor->item_bytes) : array.data);
}

int64_t output_shape(const session *s, const edgert_tensor *tensor, int64_t *shape) {
  int64_t count = 1;
  char text[512];
  for (int32_t i = 0; i < tensor->rank; i++) {
    const edgert_axis *axis = &tensor->shape[i];
    shape[i] = axis->slot < 0 ? axis->extent : s->dims[axis->slot];
    if (shape[i] < 0 || shape[i] > axis->extent)
      fail(FAILED, "the model code gave output '%s' the shape %s: compile it again", tensor->name,
           show(i + 1, shape, text, sizeof text));
    count *= shape[i];
  }
  return count;
}

void write_outputs(const session *s, const char *folder) {
  char path[4096], temporary[4096 + 8];
  int64_t shape[NPY_MOST_RANK];
  if (mkdir(folder, 0777) && errno != EEXIST) fail(FAILED, "cannot make the folder %s: %s", folder, strerror(errno));
  for (int64_t i = 0; i < s->model->output_count; i++) {
    const edgert_tensor *tensor = &s->model->outputs[i];
    output_shape(s, tensor, shape);
    int length = snprintf(path, sizeof path, "%s/%s.npy", folder, tensor->file);
    if (length >= (int)sizeof path) fail(WRONG_USE, "the path %s is too long", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *out = fopen(temporary, "wb");
    const void *data = s->io[s->model->input_count + i];
    int bad = !out || npy_write(out, tensor->descr, tensor->item_bytes, tensor->rank, shape, data);
    if (out) bad |= fclose(out);
    if (bad || rename(temporary, path)) {
      int reason = errno;
      unlink(temporary);
      fail(FAILED, "cannot write %s: %s", path, strerror(reason));
    }
  }
}
