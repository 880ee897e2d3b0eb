/* A model as a program: reads .npy inputs, writes .npy outputs, times itself. No Python, no libraries. */
#include "pool.h"
#include "program.h"

/* Binds every input: to the file or values given for it, or to what the program carries: with --verify, and where only
 * times are asked for. */
static void bind_inputs(session *s, const options *given) {
  const edgert_model *model = s->model;
  const char **owner = anonymous(model->dim_count * (int64_t)sizeof *owner, "names");
  for (int64_t i = 0; i < model->dim_count; i++) s->dims[i] = model->dims[i].max;
  if (given->stdio) {
    read_frames(s, owner);
    return;
  }
  int timed = given->runs || given->profile;
  for (int64_t i = 0; i < model->input_count; i++) {
    const edgert_tensor *tensor = &model->inputs[i];
    size_t size = tensor->golden_end - tensor->golden;
    const uint8_t *file = tensor->golden;
    const char *source = given->inputs[i];
    if (source && is_generated(source)) continue;
    if (source) file = map_file(source, &size);
    else if (!file && given->verify) fail(FAILED, "it carries no recorded input '%s' to verify with", tensor->name);
    else if (!given->verify && !timed)
      fail(WRONG_USE, "missing input '%s': give --input '%s=FILE.npy'", tensor->name, tensor->name);
    if (file) bind_input(s, i, file, size, source ? source : "the recorded input", owner);
  }
  for (int64_t i = 0; i < model->input_count; i++) /* the rest, now that files have told the dimensions */
    if (!s->io[i]) generate_input(s, i, given->inputs[i] ? given->inputs[i] : "random");
}

int run_tensors(session *s, int count, char **words) {
  const edgert_model *model = s->model;
  options given = parse_options(count, words, model);
  check_features(model->features);
  if (!given.dram) given.dram = s->dram;
  check_memory(model);
  s->dims = anonymous(model->dim_slots * (int64_t)sizeof *s->dims, "dimensions");
  s->io = anonymous((model->input_count + model->output_count) * (int64_t)sizeof *s->io, "buffers");
  bind_inputs(s, &given);
  s->arena = anonymous(model->arena_bytes, "the arena");
  for (int64_t i = 0; i < model->output_count; i++)
    s->io[model->input_count + i] = anonymous(model->outputs[i].bytes, "an output");
  s->rt = edgert_rt_get((int32_t)given.threads);
  int64_t later = arena_touched(s);
  for (int64_t i = 0; i < model->output_count; i++) later += model->outputs[i].bytes;
  open_weights(s, given.dram, later);
  int64_t start = edgert_now_ns();
  run_once(s);
  double milliseconds = (edgert_now_ns() - start) / 1e6;
  int good = !given.verify || compare_golden(s);
  if (given.stdio) write_frames(s);
  if (given.stdio && given.json) printf("{\"run_ms\": %.6f}\n", milliseconds);
  if (given.output) write_outputs(s, given.output);
  double seconds = given.runs ? time_runs(s, &given) : 0;
  if (given.profile) print_profile(s, given.runs);
  if (given.dram && !given.json) print_streaming(s, seconds);
  if (s->stream) edgert_stream_close(s->stream);
  if (fflush(stdout) || ferror(stdout)) return FAILED;
  return good ? RIGHT : FAILED;
}
