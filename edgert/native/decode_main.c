/* A language model as a program: token ids in, the likeliest ones that follow out. No Python, no libraries. */
#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "decode_options.h"
#include "guess.h"
#include "pool.h"

typedef struct {
  int64_t tokens, *text, *ids, runs; /* text: the prompt and then ids; runs after that of the prompt */
  int64_t start, prefilled, end; /* nanoseconds */
  const char *finish;
} generated;

static int is_end(const decode_options *given, int64_t token) {
  for (int64_t i = 0; i < given->ends.count; i++)
    if (given->ends.ids[i] == token) return 1;
  return 0;
}

/* The most memory this program held; getrusage would count that of the one which started it. */
static long long peak_bytes(void) {
  char line[256];
  long long kilobytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file) && sscanf(line, "VmHWM: %lld kB", &kilobytes) != 1) continue;
  if (file) fclose(file);
  return kilobytes * 1024;
}

/* Takes the next token, which is printed unless all are wanted at the end as JSON. Whether the text ends with it. */
static int ends(const decoder *d, const decode_options *given, generated *out, int64_t token) {
  out->ids[out->tokens++] = token;
  if (!given->json) {
    printf(out->tokens > 1 ? ",%lld" : "%lld", (long long)token);
    fflush(stdout);
  }
  out->finish = is_end(given, token) ? "end" : out->tokens >= given->max_tokens ? "length"
                : d->position >= d->context ? "context" : NULL;
  return out->finish != NULL;
}

static void generate(decoder *d, const decode_options *given, generated *out) {
  int64_t ids[MOST_GUESSES + 1], next[MOST_GUESSES + 1];
  int64_t token = append(d, given->prompt.ids, given->prompt.count);
  out->prefilled = edgert_now_ns();
  while (!ends(d, given, out, token)) {
    int64_t room = d->context - d->position - 1, held = 0, count = 1;
    ids[0] = token;
    if (d->guesses) count += guess(out->text, given->prompt.count + out->tokens, ids + 1, room < d->guesses ? room : d->guesses);
    attempt(d, ids, count, next);
    out->runs++;
    predict_run(d->s);
    d->position++;
    for (; held + 1 < count && ids[held + 1] == next[held]; held++, d->position++)
      if (ends(d, given, out, next[held])) break;
    if (out->finish) break;
    token = next[held];
  }
  out->end = edgert_now_ns();
}

static void print_json(const decoder *d, const decode_options *given, const generated *g) {
  double prefill = (g->prefilled - g->start) / 1e9, decode = (g->end - g->prefilled) / 1e9;
  printf("{\"ids\": [");
  for (int64_t i = 0; i < g->tokens; i++) printf(i ? ", %lld" : "%lld", (long long)g->ids[i]);
  printf("], \"finish\": \"%s\", \"prompt_tokens\": %lld, \"tokens\": %lld, \"first_token_seconds\": %.6f, ", g->finish,
         (long long)given->prompt.count, (long long)g->tokens, prefill);
  printf("\"decode_seconds\": %.6f, \"tokens_per_second\": %.3f, \"runs\": %lld, \"threads\": %lld, \"context\": %lld, ", decode,
         g->tokens > 1 ? (g->tokens - 1) / decode : 0, (long long)g->runs, (long long)given->threads, (long long)d->context);
  printf("\"arena_bytes\": %lld, \"cache_bytes\": %lld, \"peak_rss_bytes\": %lld", (long long)d->s->model->arena_bytes,
         (long long)d->cache_bytes, peak_bytes());
  if (d->s->stream) {
    edgert_stream_stats f = edgert_stream_figures(d->s->stream);
    printf(", \"pinned_bytes\": %lld, \"ring_bytes\": %lld, \"read_bytes\": %lld, \"wait_seconds\": %.6f",
           (long long)f.pinned_bytes, (long long)f.ring_bytes, (long long)f.read_bytes, f.wait_ns / 1e9);
    double predicted = predicted_seconds(d->s);
    if (predicted > 0 && g->runs)
      printf(", \"predicted_runs_per_second\": %.3f, \"runs_per_second\": %.3f", 1 / predicted, g->runs / decode);
  }
  printf("}\n");
}

int run_decoder(session *s, int count, char **words) {
  generated out = {.start = edgert_now_ns()};
  const edgert_model *model = s->model;
  decode_options given = parse_decode_options(count, words, model);
  check_features(model->features);
  if (!given.dram) given.dram = s->dram;
  s->dims = anonymous(model->dim_slots * (int64_t)sizeof *s->dims, "dimensions");
  s->io = anonymous((model->input_count + model->output_count) * (int64_t)sizeof *s->io, "buffers");
  decoder d = make_decoder(s, given.context, given.prompt.count, given.max_tokens, given.chunk, given.guesses);
  if (given.prompt.count > d.context)
    fail(DOES_NOT_FIT, "the text has %lld tokens, the context %lld", (long long)given.prompt.count, (long long)d.context);
  int64_t room = d.context - given.prompt.count + 1; /* the last one needs no place */
  if (given.max_tokens < room) room = given.max_tokens;
  out.text = anonymous((given.prompt.count + room) * (int64_t)sizeof *out.text, "token ids");
  memcpy(out.text, given.prompt.ids, (size_t)given.prompt.count * sizeof *out.text);
  out.ids = out.text + given.prompt.count;
  s->arena = anonymous(model->arena_bytes, "the arena");
  s->rt = edgert_rt_get((int32_t)given.threads);
  open_weights(s, given.dram, arena_touched(s) + d.buffer_bytes);
  generate(&d, &given, &out);
  if (given.json) print_json(&d, &given, &out);
  else putchar('\n');
  if (given.dram && !given.json) print_streaming(s, out.runs ? (out.end - out.prefilled) / 1e9 / (double)out.runs : 0);
  if (s->stream) edgert_stream_close(s->stream);
  return fflush(stdout) || ferror(stdout) ? FAILED : RIGHT;
}
