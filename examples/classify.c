/* An artifact in a C program: what it takes and gives, and its answer to a file of plain numbers.
 *
 *   edgert runner --emit lib -o sdk
 *   cc -Isdk examples/classify.c -o classify sdk/libedgert-run.so -Wl,-rpath,'$ORIGIN/sdk'
 *   ./classify mobilenet.edge picture.f32 */
#include <edgert.h>
#include <stdio.h>
#include <stdlib.h>

static void show(const char *kind, edgert_port port) {
  printf("%s %s: %s [", kind, port.name, port.type);
  for (int i = 0; i < port.rank; i++) printf(i ? ", %lld" : "%lld", (long long)port.shape[i]);
  printf("]\n");
}

int main(int count, char **words) {
  char message[EDGERT_MESSAGE];
  edgert_model *model;
  if (count < 2) return fprintf(stderr, "usage: classify ARTIFACT [INPUT]\n"), EDGERT_WRONG_USE;
  int code = edgert_open(words[1], NULL, &model, message);
  if (code) return fprintf(stderr, "%s\n", message), code;
  edgert_facts facts = edgert_info(model);
  printf("%s: arena %lld bytes, weights %lld bytes\n", facts.name, (long long)facts.arena_bytes, (long long)facts.weights_bytes);
  edgert_array *arrays = calloc(facts.input_count + facts.output_count, sizeof *arrays), *outputs = arrays + facts.input_count;
  for (int i = 0; i < facts.input_count + facts.output_count; i++) {
    edgert_port port = i < facts.input_count ? edgert_input(model, i) : edgert_output(model, i - facts.input_count);
    show(i < facts.input_count ? "input" : "output", port);
    arrays[i].bytes = port.bytes;
    arrays[i].data = calloc(1, port.bytes);
    for (int k = 0; k < port.rank; k++) arrays[i].shape[k] = port.shape[k];
  }
  FILE *file = count > 2 ? fopen(words[2], "rb") : NULL; /* of the first input; the others are zeros */
  if (count > 2 && (!file || !fread(arrays[0].data, 1, arrays[0].bytes, file)))
    return fprintf(stderr, "%s: cannot be read\n", words[2]), EDGERT_WRONG_USE;
  if ((code = edgert_run(model, arrays, outputs, message))) return fprintf(stderr, "%s\n", message), code;
  const float *scores = outputs[0].data; /* float32 */
  int64_t best = 0, all = outputs[0].bytes / 4;
  for (int64_t i = 1; i < all; i++)
    if (scores[i] > scores[best]) best = i;
  printf("largest: [%lld] %.9g\n", (long long)best, scores[best]);
  edgert_close(model);
  return EDGERT_RIGHT;
}
