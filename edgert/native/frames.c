/* Inputs from standard input and outputs to standard output, for whoever starts the program from another machine. */
#include <string.h>

#include "program.h"

static void take(void *to, size_t bytes) {
  if (fread(to, 1, bytes, stdin) != bytes) fail(FAILED, "standard input ends within the inputs");
}

void read_frames(session *s, const char **owner) {
  for (int64_t i = 0; i < s->model->input_count; i++) {
    uint64_t size;
    const edgert_tensor *tensor = &s->model->inputs[i];
    take(&size, sizeof size);
    if (size > (uint64_t)tensor->bytes + (1 << 20))
      fail(WRONG_USE, "input '%s' has more bytes than the model has room for", tensor->name);
    uint8_t *file = anonymous((int64_t)size, "an input");
    take(file, size);
    bind_input(s, i, file, size, tensor->name, owner);
  }
}

void write_frames(const session *s) {
  for (int64_t i = 0; i < s->model->output_count; i++) {
    const edgert_tensor *tensor = &s->model->outputs[i];
    int64_t shape[NPY_MOST_RANK];
    uint8_t header[NPY_MOST_HEADER];
    int64_t count = output_shape(s, tensor, shape);
    uint64_t length = npy_header(header, tensor->descr, tensor->rank, shape);
    uint64_t size = length + (uint64_t)count * tensor->item_bytes;
    fwrite(&size, sizeof size, 1, stdout);
    fwrite(header, length, 1, stdout);
    fwrite(s->io[s->model->input_count + i], tensor->item_bytes, count, stdout);
  }
}
