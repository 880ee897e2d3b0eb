#include <stdlib.h>
#include <string.h>

#include "program.h"

static void print_shape(const edgert_tensor *tensor, const edgert_model *model) {
  printf("  %s: %s [", tensor->name, tensor->descr);
  for (int32_t i = 0; i < tensor->rank; i++) {
    const edgert_axis *axis = &tensor->shape[i];
    if (i) printf(", ");
    if (axis->slot >= 0 && axis->slot < model->dim_count) {
      const edgert_dim *dim = &model->dims[axis->slot];
      printf("%s=%lld..%lld", dim->name, (long long)dim->min, (long long)dim->max);
    } else {
      printf(axis->slot >= 0 ? "<=%lld" : "%lld", (long long)axis->extent);
    }
  }
  printf("]\n");
}

static noreturn void help(const char *program, const edgert_model *model) {
  printf("Usage: %s --input NAME=FILE.npy ... [--output DIR] [--time N] [--threads N] [--dram 64M] [--profile] [--json]\n", program);
  printf("       %s --verify [--threads N] [--dram 64M]\n\n", program);
  printf("Runs the model %s. --verify runs it on the inputs it carries and compares the outputs.\n", model->name);
  printf("In place of a file: zeros, random, a number. --time and --profile take what it carries, or random, for the rest.\n");
  printf("--profile: each step's time; with --time N its best of N runs more.\n");
  printf("--stdio: .npy files behind their sizes (8 bytes each, little endian) from standard input and to standard output.\n");
  printf("Exit codes: 0 right, 1 failed, 2 wrong use, 4 does not fit.\n\nInputs:\n");
  for (int64_t i = 0; i < model->input_count; i++) print_shape(&model->inputs[i], model);
  printf("Outputs:\n");
  for (int64_t i = 0; i < model->output_count; i++) print_shape(&model->outputs[i], model);
  printf("Code: for %s\n", model->target);
  printf("Memory: arena %lld bytes, weights %lld bytes\n", (long long)model->arena_bytes,
         (long long)model->weights_bytes);
  exit(RIGHT);
}

int64_t option_number(const char *option, const char *text, int64_t most) {
  char *end;
  long long value = strtoll(text, &end, 10);
  if (!*text || *end || value < 1 || value > most)
    fail(WRONG_USE, "%s %s: give a number from 1 to %lld", option, text, (long long)most);
  return value;
}

/* An amount of memory: 262144, 256K, 64M, 1.5G. */
int64_t option_amount(const char *option, const char *text) {
  char *end;
  double value = strtod(text, &end), most = 1e15;
  const char *units = "KMGT", *unit = *end ? strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
  for (const char *u = units; unit && u <= unit; u++) value *= 1024;
  if (unit) end++;
  if (unit && *end == 'i') end++;
  if (unit && *end == 'B') end++;
  if (*text < '0' || *text > '9' || *end || !(value >= 1 && value < most))
    fail(WRONG_USE, "%s %s: write an amount of memory as 262144, 256K, 64M or 1.5G", option, text);
  return (int64_t)value;
}

static void input(const char *text, const edgert_model *model, const char **files) {
  for (int64_t i = 0; i < model->input_count; i++) {
    size_t length = strlen(model->inputs[i].name); /* a name may hold = itself, so look for known names */
    if (strncmp(text, model->inputs[i].name, length) || text[length] != '=') continue;
    if (files[i]) fail(WRONG_USE, "input '%s' is given twice", model->inputs[i].name);
    files[i] = text + length + 1;
    return;
  }
  fail(WRONG_USE, "--input %s: write NAME=FILE.npy with a name that --help lists", text);
}

options parse_options(int count, char **words, const edgert_model *model) {
  options given = {.threads = core_count()};
  given.inputs = anonymous(model->input_count * (int64_t)sizeof *given.inputs, "names");
  for (int i = 1; i < count; i++) {
    const char *word = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) help(words[0], model);
    if (!strcmp(word, "--profile")) given.profile = 1;
    else if (!strcmp(word, "--verify")) given.verify = 1;
    else if (!strcmp(word, "--json")) given.json = 1;
    else if (!strcmp(word, "--stdio")) given.stdio = 1;
    else if (strcmp(word, "--input") && strcmp(word, "--output") && strcmp(word, "--time") && strcmp(word, "--threads") &&
             strcmp(word, "--dram"))
      fail(WRONG_USE, "%s is not an option: see --help", word);
    else if (!value) fail(WRONG_USE, "%s needs a value: see --help", word);
    else {
      i++;
      if (!strcmp(word, "--input")) input(value, model, given.inputs);
      else if (!strcmp(word, "--output")) given.output = value;
      else if (!strcmp(word, "--dram")) given.dram = option_amount(word, value);
      else if (!strcmp(word, "--time")) given.runs = option_number(word, value, 1000000);
      else given.threads = option_number(word, value, 256);
    }
  }
  return given;
}
