#include <stdlib.h>

#include "pool.h"
#include "program.h"

void run_once(session *s) {
  const edgert_model *model = s->model;
  for (int64_t i = model->dim_count; i < model->dim_slots; i++) s->dims[i] = -1; /* for the code to fill in */
  int32_t failed = edgert_rt_run_streamed(s->rt, s->entry, s->stream, s->arena, s->weights, s->io, s->dims,
                                          s->profile_ns, model->step_count);
  if (failed && s->stream && edgert_stream_error(s->stream)[0]) fail(FAILED, "%s", edgert_stream_error(s->stream));
  if (failed >= 1 && failed <= model->step_count) {
    const edgert_step *step = &model->steps[failed - 1];
    fail(FAILED, "step %d, '%s' (%s), failed on these inputs", failed - 1, step->name, step->op);
  }
  if (failed) fail(FAILED, "the model code failed with %d", failed);
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

double time_runs(session *s, const options *given) {
  int64_t *times = anonymous(given->runs * (int64_t)sizeof *times, "times");
  for (int64_t i = 0; i < given->runs; i++) {
    int64_t start = edgert_now_ns();
    run_once(s);
    times[i] = edgert_now_ns() - start;
    predict_run(s);
  }
  qsort(times, given->runs, sizeof *times, ascending);
  double best = times[0] / 1e6, median = times[given->runs / 2] / 1e6;
  const char *format = given->json ? "{\"runs\": %lld, \"threads\": %lld, \"best_ms\": %.6f, \"median_ms\": %.6f"
                                   : "%lld runs, %lld threads: best %.3f ms, median %.3f ms";
  printf(format, (long long)given->runs, (long long)given->threads, best, median);
  double predicted = predicted_seconds(s);
  if (given->json && predicted > 0) printf(", \"predicted_ms\": %.6f", predicted * 1e3);
  printf(given->json ? "}\n" : "\n");
  return median / 1e3;
}

void print_profile(session *s, int64_t runs) {
  int64_t count = s->model->step_count, *best = anonymous(count * (int64_t)sizeof *best, "the profile");
  s->profile_ns = anonymous(count * (int64_t)sizeof *s->profile_ns, "the profile");
  for (int64_t run = 0; run < runs || !run; run++) {
    run_once(s);
    for (int64_t i = 0; i < count; i++)
      if (!run || s->profile_ns[i] < best[i]) best[i] = s->profile_ns[i];
  }
  for (int64_t i = 0; i < count; i++)
    printf("%10.3f us  %s (%s)\n", best[i] / 1e3, s->model->steps[i].name, s->model->steps[i].op);
  s->profile_ns = NULL;
}
