/* A model as a program: reads .npy inputs, writes .npy outputs, times itself. No Python, no libraries. */
#include "program.h"

/* Binds every input: to the file given for it, or with --verify to the one recorded in the program. */
static void bind_inputs(session *s, const options *given) {
  const edgert_model *model = s->model;
  const char **owner = anonymous(model->dim_count * (int64_t)sizeof *owner, "names");
  for (int64_t i = 0; i < model->dim_count; i++) s->dims[i] = model->dims[i].max;
  for (int64_t i = 0; i < model->input_count; i++) {
    const edgert_tensor *tensor = &model->inputs[i];
    size_t size = tensor->golden_end - tensor->golden;
    const uint8_t *file = tensor->golden;
    const char *source = "the recorded input";
    if (!given->verify) {
      source = given->inputs[i];
      if (!source) fail(WRONG_USE, "missing input '%s': give --input '%s=FILE.npy'", tensor->name, tensor->name);
      file = map_file(source, &size);
    } else if (!file) {
      fail(FAILED, "it carries no recorded input '%s' to verify with", tensor->name);
    }
    bind_input(s, i, file, size, source, owner);
  }
}

int main(int count, char **words) {
  const edgert_model *model = &edgert_the_model;
  options given = parse_options(count, words, model);
  check_features(model->features);
  check_memory(model);
  session s = {.model = model};
  s.dims = anonymous(model->dim_slots * (int64_t)sizeof *s.dims, "dimensions");
  s.io = anonymous((model->input_count + model->output_count) * (int64_t)sizeof *s.io, "buffers");
  bind_inputs(&s, &given);
  s.arena = anonymous(model->arena_bytes, "the arena");
  for (int64_t i = 0; i < model->output_count; i++)
    s.io[model->input_count + i] = anonymous(model->outputs[i].bytes, "an output");
  s.rt = edgert_rt_get((int32_t)given.threads);
  int64_t later = model->arena_bytes;
  for (int64_t i = 0; i < model->output_count; i++) later += model->outputs[i].bytes;
  open_weights(&s, given.dram, later);
  run_once(&s);
  int good = !given.verify || compare_golden(&s);
  if (given.output) write_outputs(&s, given.output);
  if (given.runs) time_runs(&s, &given);
  if (given.profile) print_profile(&s);
  if (given.dram && !given.json) print_streaming(&s);
  if (s.stream) edgert_stream_close(s.stream);
  if (fflush(stdout) || ferror(stdout)) return FAILED;
  return good ? RIGHT : FAILED;
}
