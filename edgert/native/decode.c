#include "decode.h"

#include <string.h>

static int64_t dim_named(const edgert_model *model, const char *name) {
  for (int64_t i = 0; i < model->dim_count; i++)
    if (!strcmp(model->dims[i].name, name)) return i;
  fail(FAILED, "it has no dimension '%s': compile it again", name);
}

static int64_t find_input(const edgert_model *model, const char *name) {
  for (int64_t i = 0; i < model->input_count; i++)
    if (!strcmp(model->inputs[i].name, name)) return i;
  return -1;
}

static int64_t input_named(const edgert_model *model, const char *name) {
  int64_t found = find_input(model, name);
  if (found >= 0) return found;
  fail(FAILED, "it has no input '%s': compile it again", name);
}

/* Bytes of a tensor with the extents of s->dims. */
static int64_t bytes_now(const session *s, const edgert_tensor *tensor) {
  int64_t bytes = tensor->item_bytes;
  for (int32_t i = 0; i < tensor->rank; i++)
    bytes *= tensor->shape[i].slot < 0 ? tensor->shape[i].extent : s->dims[tensor->shape[i].slot];
  return bytes;
}

static void within(const char *option, int64_t *value, int64_t most) {
  if (*value > most)
    fail(WRONG_USE, "%s %lld: the model was compiled for at most %lld", option, (long long)*value, (long long)most);
  if (!*value) *value = most;
}

decoder make_decoder(session *s, int64_t context, int64_t prompt, int64_t more, int64_t chunk, int64_t guesses) {
  const edgert_model *model = s->model;
  const edgert_tensor *result = model->outputs;
  int64_t seq = dim_named(model, "seq"), want = dim_named(model, "want"), places = dim_named(model, "context");
  if (!context && prompt + more < model->dims[places].max) context = prompt + more;
  within("--context", &context, model->dims[places].max);
  int64_t most = model->dims[seq].max < model->dims[places].max ? model->dims[seq].max : model->dims[places].max;
  within("--chunk", &chunk, most);
  if (chunk > prompt) chunk = prompt;
  if (chunk > context) chunk = context;
  int64_t folded = find_input(model, "folded"), window = 0;
  if (folded >= 0) {
    window = model->inputs[input_named(model, "cache.0")].shape[3].extent;
    if (chunk > window - 2 * FOLD) chunk = window - 2 * FOLD; /* some of the latest stay whatever comes */
  }
  if (guesses && folded >= 0) fail(WRONG_USE, "--guess: this model's cache takes nothing back, which wrong guesses need");
  int64_t room = most < model->dims[want].max ? most : model->dims[want].max;
  if (guesses > room - 1) guesses = room - 1;
  decoder d = {.s = s, .seq = &s->dims[seq], .want = &s->dims[want], .context = context, .chunk = chunk,
               .guesses = guesses, .window = window};
  *d.seq = chunk > guesses ? chunk : guesses + 1;
  *d.want = guesses + 1;
  d.least = model->dims[want].min;
  s->dims[places] = context;
  d.tells = result->rank == 1;
  d.vocab = model->vocab;
  for (int64_t i = 0; i < model->input_count; i++) {
    d.buffer_bytes += bytes_now(s, &model->inputs[i]);
    if (!strncmp(model->inputs[i].name, "cache.", 6)) d.cache_bytes += bytes_now(s, &model->inputs[i]);
  }
  d.buffer_bytes += bytes_now(s, result);
  check_free(model->arena_bytes + d.buffer_bytes, "arena, KV cache and buffers");
  for (int64_t i = 0; i < model->input_count; i++) s->io[i] = anonymous(bytes_now(s, &model->inputs[i]), "an input");
  s->io[model->input_count] = d.result = anonymous(bytes_now(s, result), "the result");
  d.ids = s->io[input_named(model, "ids")];
  d.positions = s->io[input_named(model, "positions")];
  d.past = s->io[input_named(model, "past")];
  d.rows = s->io[input_named(model, "rows")];
  if (window) d.folded = s->io[folded];
  return d;
}

/* Every token sees itself and those before it: a triangle, whose rows are as long as there are tokens. */
static void fill_seen(const decoder *d, int64_t count) {
  uint8_t *seen = d->s->io[input_named(d->s->model, "seen")];
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j < count; j++) seen[i * count + j] = j <= i;
}

/* Has so many rows folded in the next run that its own fit the window (edgert/llm/cache/folding.py). */
static void fold(decoder *d, int64_t more) {
  int64_t lacking = d->position + more - d->folded[1] - d->window;
  d->folded[0] = d->folded[1];
  if (lacking > 0) d->folded[1] += (lacking + FOLD - 1) / FOLD * FOLD;
}

static int64_t likeliest(const decoder *d, int64_t row) {
  if (d->tells) {
    int64_t id = ((const int64_t *)d->result)[row];
    if (id < 0) fail(FAILED, "no token can follow: the model's results are not finite numbers");
    return id;
  }
  const float *logits = (const float *)d->result + row * d->vocab;
  int64_t best = 0;
  for (int64_t i = 1; i < d->vocab; i++)
    if (logits[i] > logits[best]) best = i;
  return best;
}

/* Runs `some` tokens behind those that the cache holds. */
static void run_tokens(decoder *d, const int64_t *ids, int64_t some) {
  if (some != *d->seq || !d->position) fill_seen(d, some);
  *d->seq = some;
  for (int64_t i = 0; i < some; i++) {
    d->ids[i] = ids[i];
    d->positions[i] = d->position + i;
  }
  *d->past = d->position;
  if (d->folded) fold(d, some);
  run_once(d->s);
}

int64_t append(decoder *d, const int64_t *ids, int64_t count) {
  while (count) {
    int64_t some = count < d->chunk ? count : d->chunk;
    *d->rows = some - 1;
    *d->want = count > some ? d->least : 1; /* the output layer's turn is the prompt's end */
    run_tokens(d, ids, some);
    d->position += some;
    ids += some;
    count -= some;
  }
  return likeliest(d, 0);
}

void attempt(decoder *d, const int64_t *ids, int64_t count, int64_t *next) {
  for (int64_t i = 0; i < count; i++) d->rows[i] = i;
  *d->want = count;
  run_tokens(d, ids, count);
  for (int64_t i = 0; i < count; i++) next[i] = likeliest(d, i);
}
