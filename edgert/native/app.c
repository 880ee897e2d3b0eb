/* The library for applications: app/edgert.h over what the runner does, with errors that return. */
#define _GNU_SOURCE
#include "app/edgert.h"

/* Inside, the contract with model code has these names for other things. */
#define edgert_model edgert_tables
#define edgert_run edgert_code_entry
#include "opened.h"
#undef edgert_model
#undef edgert_run

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct edgert_model {
  opened o;
  session s;
  mapping *mapped;
  char *path;
};

static _Thread_local jmp_buf landing;
static _Thread_local char *last_words; /* [EDGERT_MESSAGE], or NULL */
static _Thread_local int reason;

const char *program_name = "edgert";

void fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (last_words) vsnprintf(last_words, EDGERT_MESSAGE, format, arguments);
  va_end(arguments);
  reason = code;
  longjmp(landing, 1);
}

static void make(edgert_model *m, const edgert_options *given) {
  open_artifact(&m->o, m->path);
  const edgert_tables *model = &m->o.model;
  if (json_get(m->o.manifest, "decoder")) fail(WRONG_USE, "%s is a language model: this library runs models of tensors", m->path);
  if (given && (given->threads < 0 || given->threads > 256 || given->dram < 0))
    fail(WRONG_USE, "options: threads are 1 to 256, dram is not negative; 0 leaves them open");
  check_features(model->features);
  check_memory(model);
  m->s = (session){.model = model, .entry = m->o.run, .place = opened_place(&m->o)};
  m->s.dims = anonymous(model->dim_slots * (int64_t)sizeof *m->s.dims, "dimensions");
  m->s.io = anonymous((model->input_count + model->output_count) * (int64_t)sizeof *m->s.io, "buffers");
  m->s.arena = anonymous(model->arena_bytes, "the arena");
  m->s.rt = edgert_rt_get(given && given->threads ? given->threads : (int32_t)core_count());
  open_weights(&m->s, given && given->dram ? given->dram : m->o.dram, model->arena_bytes);
}

int edgert_open(const char *path, const edgert_options *options, edgert_model **model, char *message) {
  edgert_model *m = *model = calloc(1, sizeof *m);
  last_words = message;
  if (m && !setjmp(landing)) {
    keeping = &m->mapped;
    if (!(m->path = strdup(path))) fail(DOES_NOT_FIT, "no memory");
    make(m, options);
    keeping = NULL;
    return EDGERT_RIGHT;
  }
  keeping = NULL;
  if (*model) edgert_close(*model);
  *model = NULL;
  return m ? reason : EDGERT_DOES_NOT_FIT;
}

void edgert_close(edgert_model *m) {
  if (!m) return;
  if (m->s.stream) edgert_stream_close(m->s.stream);
  for (mapping *next; m->mapped; m->mapped = next) {
    next = m->mapped->next;
    munmap(m->mapped->at, m->mapped->bytes);
    free(m->mapped);
  }
  free(m->path);
  free(m);
}

edgert_facts edgert_info(const edgert_model *m) {
  const edgert_tables *t = &m->o.model;
  return (edgert_facts){t->name, (int32_t)t->input_count, (int32_t)t->output_count, t->arena_bytes, t->weights_bytes};
}

static edgert_port port(const edgert_tensor *tensor) {
  edgert_port made = {tensor->name, tensor->descr, tensor->item_bytes, tensor->rank, {0}, tensor->bytes};
  for (int32_t i = 0; i < tensor->rank; i++) made.shape[i] = tensor->shape[i].extent;
  return made;
}

edgert_port edgert_input(const edgert_model *m, int32_t index) { return port(&m->o.model.inputs[index]); }

edgert_port edgert_output(const edgert_model *m, int32_t index) { return port(&m->o.model.outputs[index]); }

static void bind(edgert_model *m, const edgert_array *inputs, const edgert_array *outputs) {
  const edgert_tables *t = &m->o.model;
  for (int64_t i = 0; i < t->dim_count; i++) m->s.dims[i] = -1;
  for (int64_t k = 0; k < t->input_count; k++) {
    const edgert_tensor *tensor = &t->inputs[k];
    int64_t bytes = tensor->item_bytes;
    for (int32_t i = 0; i < tensor->rank; i++) {
      int64_t extent = inputs[k].shape[i], slot = tensor->shape[i].slot, *known = slot < 0 ? NULL : &m->s.dims[slot];
      int good = known ? extent >= t->dims[slot].min && extent <= t->dims[slot].max && (*known < 0 || *known == extent)
                       : extent == tensor->shape[i].extent;
      if (!good) fail(WRONG_USE, "input '%s': %lld does not fit as its extent %d", tensor->name, (long long)extent, i);
      if (known) *known = extent;
      bytes *= extent;
    }
    if (inputs[k].bytes < bytes || (bytes && !inputs[k].data))
      fail(WRONG_USE, "input '%s' has %lld bytes, its shape needs %lld", tensor->name, (long long)inputs[k].bytes, (long long)bytes);
    m->s.io[k] = inputs[k].data;
  }
  for (int64_t k = 0; k < t->output_count; k++) {
    if (outputs[k].bytes < t->outputs[k].bytes || !outputs[k].data)
      fail(WRONG_USE, "output '%s' needs room for %lld bytes", t->outputs[k].name, (long long)t->outputs[k].bytes);
    m->s.io[t->input_count + k] = outputs[k].data;
  }
}

int edgert_run(edgert_model *m, const edgert_array *inputs, edgert_array *outputs, char *message) {
  last_words = message;
  if (setjmp(landing)) return reason;
  bind(m, inputs, outputs);
  run_once(&m->s);
  for (int64_t k = 0; k < m->o.model.output_count; k++) output_shape(&m->s, &m->o.model.outputs[k], outputs[k].shape);
  return EDGERT_RIGHT;
}
