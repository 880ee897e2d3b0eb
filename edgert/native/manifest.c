/* The manifest's values, checked one by one as edgert/manifest.py does, into the tables of model.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "opened.h"

static const int64_t MOST_BYTES = (int64_t)1 << 46, MOST_EXTENT = (int64_t)1 << 40;

void item_fail(const item *i, const char *wanted) {
  damaged(i->of, "%s is not %s", *i->where ? i->where : "the manifest", wanted);
}

item item_key(const item *in, const char *key) {
  item made = {in->of, json_get(in->value, key), ""};
  snprintf(made.where, sizeof made.where, *in->where ? "%s.%s" : "%s%s", in->where, key);
  if (in->value->kind != JSON_OBJECT) item_fail(in, "an object");
  if (!made.value) damaged(in->of, "%s is missing", made.where);
  return made;
}

item item_entry(const item *in, const json *entry, int64_t index) {
  item made = {in->of, entry, ""};
  snprintf(made.where, sizeof made.where, "%.80s[%lld]", in->where, (long long)index);
  return made;
}

int64_t item_integer(const item *i, int64_t low, int64_t high) {
  char wanted[80];
  snprintf(wanted, sizeof wanted, "a whole number from %lld to %lld", (long long)low, (long long)high);
  if (i->value->kind != JSON_INTEGER || i->value->integer < low || i->value->integer > high) item_fail(i, wanted);
  return i->value->integer;
}

int64_t item_count(const item *list) {
  if (list->value->kind != JSON_LIST) item_fail(list, "a list");
  return list->value->count;
}

const char *item_text(const item *i) {
  if (i->value->kind != JSON_TEXT || !*i->value->text || strlen(i->value->text) > 4096 * 4)
    item_fail(i, "a text of 1 to 4096 characters");
  return i->value->text;
}

static void *room(int64_t count, size_t size) { return anonymous(count * (int64_t)size, "the manifest"); }

/* A name as a file's: what is not plain as %XX (file_stem of edgert/npy.py). */
static const char *file_stem(const char *name) {
  char *stem = room(3 * (int64_t)strlen(name) + 1, 1), *to = stem;
  for (const char *c = name; *c; c++) {
    int plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("._-", *c);
    to += plain ? (*to = *c, 1) : sprintf(to, "%%%02X", (uint8_t)*c);
  }
  return stem;
}

static void read_dtype(const item *i, edgert_tensor *tensor) {
  static const struct {
    const char *name, *descr;
    char kind;
  } known[] = {{"bool", "|b1", 'u'},     {"int8", "|i1", 'i'},      {"uint8", "|u1", 'u'},      {"int16", "<i2", 'i'},
               {"uint16", "<u2", 'u'},   {"int32", "<i4", 'i'},     {"uint32", "<u4", 'u'},     {"int64", "<i8", 'i'},
               {"uint64", "<u8", 'u'},   {"float16", "<f2", 'f'},   {"float32", "<f4", 'f'},    {"float64", "<f8", 'f'},
               {"complex64", "<c8", 'c'}, {"complex128", "<c16", 'c'}, {"bfloat16", "<u2", 'r'}, {"float8_e4m3fn", "|u1", 'r'},
               {"float8_e4m3fnuz", "|u1", 'r'}, {"float8_e5m2", "|u1", 'r'}, {"float8_e5m2fnuz", "|u1", 'r'},
               {"float8_e8m0fnu", "|u1", 'r'}, {"float4_e2m1fn", "|u1", 'r'}, {"int4", "|i1", 'r'}, {"uint4", "|u1", 'r'},
               {"int2", "|i1", 'r'},     {"uint2", "|u1", 'r'}};
  const char *name = item_text(i);
  for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
    if (strcmp(known[k].name, name)) continue;
    tensor->descr = known[k].descr;
    tensor->kind = known[k].kind;
    tensor->item_bytes = atoi(known[k].descr + 2);
    return;
  }
  item_fail(i, "a known type");
}

static void read_tensor(const item *from, edgert_tensor *tensor, int64_t slots, const edgert_dim *bounds) {
  item name = item_key(from, "name"), dtype = item_key(from, "dtype"), shape = item_key(from, "shape");
  item bytes = item_key(from, "bytes");
  tensor->name = item_text(&name);
  tensor->file = file_stem(tensor->name);
  read_dtype(&dtype, tensor);
  if (item_count(&shape) > NPY_MOST_RANK) item_fail(&shape, "a shape of at most 32 axes");
  edgert_axis *axes = room(shape.value->count, sizeof *axes);
  tensor->shape = axes;
  tensor->bytes = item_integer(&bytes, 0, MOST_BYTES);
  int64_t need = tensor->item_bytes;
  int over = 0;
  for (const json *entry = shape.value->first; entry; entry = entry->next, tensor->rank++) {
    item axis = item_entry(&shape, entry, tensor->rank);
    edgert_axis *to = &axes[tensor->rank];
    to->slot = -1;
    if (entry->kind == JSON_OBJECT) {
      item slot = item_key(&axis, "slot");
      axis = item_key(&axis, "max");
      to->slot = (int32_t)item_integer(&slot, 0, slots - 1);
    }
    to->extent = item_integer(&axis, 0, MOST_EXTENT);
    if (bounds && to->slot >= 0 && to->extent != bounds[to->slot].max) item_fail(&axis, "its dimension's bound");
    over |= __builtin_mul_overflow(need, to->extent ? to->extent : 1, &need);
  }
  for (int32_t i = 0; i < tensor->rank; i++)
    if (!axes[i].extent) need = 0;
  if (over || tensor->bytes < need) item_fail(&bytes, "room for its shape");
}

static const edgert_tensor *read_tensors(const item *top, const char *key, int64_t *count, int64_t slots,
                                         const edgert_dim *bounds, const char *folder) {
  item list = item_key(top, key);
  edgert_tensor *made = room(item_count(&list), sizeof *made);
  *count = 0;
  for (const json *entry = list.value->first; entry; entry = entry->next, ++*count) {
    item one = item_entry(&list, entry, *count);
    edgert_tensor *tensor = &made[*count];
    read_tensor(&one, tensor, slots, bounds);
    for (int64_t k = 0; k < *count; k++)
      if (!strcmp(made[k].name, tensor->name)) item_fail(&one, "named differently from all others");
    char *member = room((int64_t)strlen(tensor->file) + 20, 1);
    sprintf(member, "golden/%s/%s.npy", folder, tensor->file);
    const archive_member *golden = archive_get(&top->of->members, member);
    if (!golden) continue;
    tensor->golden = top->of->file + golden->data;
    tensor->golden_end = tensor->golden + golden->size;
  }
  return made;
}

static const edgert_dim *read_dims(const item *top, int64_t *count) {
  item list = item_key(top, "dims");
  edgert_dim *made = room(item_count(&list), sizeof *made);
  *count = 0;
  for (const json *entry = list.value->first; entry; entry = entry->next, ++*count) {
    item one = item_entry(&list, entry, *count), name = item_key(&one, "name"), min = item_key(&one, "min");
    item max = item_key(&one, "max");
    int64_t least = item_integer(&min, 0, MOST_EXTENT);
    made[*count] = (edgert_dim){item_text(&name), least, item_integer(&max, least, MOST_EXTENT)};
  }
  return made;
}

static const edgert_step *read_steps(const item *top, int64_t *count) {
  item list = item_key(top, "steps");
  edgert_step *made = room(item_count(&list), sizeof *made);
  *count = 0;
  for (const json *entry = list.value->first; entry; entry = entry->next, ++*count) {
    item one = item_entry(&list, entry, *count), name = item_key(&one, "name");
    const json *op = json_get(entry, "op");
    made[*count] = (edgert_step){item_text(&name), op && op->kind == JSON_TEXT ? op->text : ""};
  }
  return made;
}

static void read_target(opened *o, const item *top) {
  item target = item_key(top, "target"), triple = item_key(&target, "triple"), list = item_key(&target, "features");
  const char **features = room(item_count(&list) + 1, sizeof *features);
  int64_t count = 0;
  item name = item_key(&target, "name");
  o->model.target = item_text(&name);
  o->triple = item_text(&triple);
  for (const json *entry = list.value->first; entry; entry = entry->next, count++) {
    item one = item_entry(&list, entry, count);
    features[count] = item_text(&one);
  }
  o->model.features = features;
}

static void read_decoder(edgert_model *model, const item *top) {
  if (!json_get(top->value, "decoder")) return;
  item decoder = item_key(top, "decoder"), list = item_key(&decoder, "ends");
  int64_t *ends = room(item_count(&list), sizeof *ends);
  for (const json *entry = list.value->first; entry; entry = entry->next, model->end_count++) {
    item one = item_entry(&list, entry, model->end_count);
    ends[model->end_count] = item_integer(&one, 0, INT64_MAX);
  }
  model->ends = ends;
  item vocab = item_key(&decoder, "vocab");
  model->vocab = item_integer(&vocab, 1, INT32_MAX);
}

void read_manifest(opened *o) {
  edgert_model *model = &o->model;
  item top = {o, o->manifest, ""}, format = item_key(&top, "format"), abi = item_key(&top, "abi");
  int64_t is = item_integer(&format, 0, INT32_MAX), uses = item_integer(&abi, 0, INT32_MAX);
  if (is != 1 || uses != EDGERT_ABI)
    damaged(o, "its format is %lld and its abi %lld, this program reads 1 and %d: compile the model again", (long long)is,
            (long long)uses, EDGERT_ABI);
  item name = item_key(&top, "name"), entry = item_key(&top, "entry"), arena = item_key(&top, "arena_bytes");
  item weights = item_key(&top, "weights_bytes"), slots = item_key(&top, "dim_slots");
  model->name = item_text(&name);
  o->entry = item_text(&entry);
  read_target(o, &top);
  model->arena_bytes = item_integer(&arena, 0, MOST_BYTES);
  model->weights_bytes = item_integer(&weights, 0, MOST_BYTES);
  model->dims = read_dims(&top, &model->dim_count);
  model->dim_slots = item_integer(&slots, model->dim_count, 1 << 20);
  model->inputs = read_tensors(&top, "inputs", &model->input_count, model->dim_count, model->dims, "in");
  model->outputs = read_tensors(&top, "outputs", &model->output_count, model->dim_slots, NULL, "out");
  model->steps = read_steps(&top, &model->step_count);
  read_decoder(model, &top);
  if (json_get(o->manifest, "golden")) {
    item golden = item_key(&top, "golden"), tolerance = item_key(&golden, "tolerance");
    int whole = tolerance.value->kind == JSON_INTEGER;
    model->tolerance = whole ? (double)tolerance.value->integer : tolerance.value->real;
    if ((!whole && tolerance.value->kind != JSON_REAL) || !(model->tolerance >= 0) || isinf(model->tolerance))
      item_fail(&tolerance, "a number of 0 or more");
  }
  const json *dram = json_get(o->manifest, "dram");
  if (dram && dram->kind == JSON_INTEGER) o->dram = dram->integer;
}
