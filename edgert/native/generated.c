/* Inputs that need no file: zeros, random numbers, one number throughout. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

int is_generated(const char *source) {
  char *end;
  strtod(source, &end);
  return !strcmp(source, "zeros") || !strcmp(source, "random") || (end != source && !*end && access(source, F_OK));
}

/* Uniform in [0, 1); the same sequence every time (xorshift64*, Vigna 2016). */
static double uniform(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (double)(*state * 0x2545F4914F6CDD1Du >> 11) / 9007199254740992.0;
}

static void put(const edgert_tensor *tensor, uint8_t *to, double value) {
  float single = (float)value;
  int64_t whole = (int64_t)value;
  if (tensor->kind == 'f') memcpy(to, tensor->item_bytes == 4 ? (void *)&single : (void *)&value, tensor->item_bytes);
  else memcpy(to, &whole, tensor->item_bytes); /* little endian */
}

void generate_input(session *s, int64_t index, const char *source) {
  const edgert_tensor *tensor = &s->model->inputs[index];
  int random = !strcmp(source, "random"), zeros = !strcmp(source, "zeros");
  if (!zeros && !(tensor->kind == 'f' && tensor->item_bytes >= 4) && !strchr("iu", tensor->kind))
    fail(WRONG_USE, "input '%s' is %s: give it as a .npy file, or zeros", tensor->name, tensor->descr);
  uint64_t state = 88172645463325252u + (uint64_t)index;
  int64_t count = tensor->bytes / tensor->item_bytes;
  uint8_t *data = anonymous(tensor->bytes, "an input"); /* for the largest shape: the real one has no more elements */
  double number = zeros || random ? 0 : strtod(source, NULL);
  for (int64_t i = 0; !zeros && i < count; i++) {
    double value = !random ? number : tensor->kind == 'f' ? uniform(&state) : uniform(&state) < 0.5;
    put(tensor, data + i * tensor->item_bytes, value);
  }
  s->io[index] = data;
}
