/* The command line of a language model's program. */
#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "decode_options.h"

static noreturn void help(const char *program, const edgert_model *model) {
  printf("Usage: %s --ids 1,2,3 [--max-tokens 256] [--context N] [--threads N] [--dram 64M] [--json]\n\n", program);
  printf("Continues a text of the model %s, given as token ids, with the likeliest tokens, and prints their ids.\n",
         model->name);
  printf("  --ids LIST        the text so far; - reads it from standard input\n");
  printf("  --max-tokens N    how many at most (256)\n");
  printf("  --context N       tokens that the cache has room for (as many as can be needed)\n");
  printf("  --chunk N         tokens of the text that go through the model at once\n");
  printf("  --guess N         try so many tokens that followed the same ones before, up to %d: the same text, with fewer\n"
         "                    runs where it repeats itself\n", MOST_GUESSES);
  printf("  --end LIST        tokens that end the text (the model's own)\n");
  printf("  --ignore-end      go on after them\n");
  printf("  --threads N       how many share the work (the cores there are)\n");
  printf("  --dram AMOUNT     memory for the whole process: weights without room are read as it runs\n");
  printf("  --json            one object with the ids, the speed and the memory\n\n");
  printf("Exit codes: 0 right, 1 failed, 2 wrong use, 4 does not fit.\n");
  exit(RIGHT);
}

static const char *standard_input(void) {
  int64_t size = 0, room = 1 << 16;
  char *text = malloc(room);
  while (text && !feof(stdin) && !ferror(stdin)) {
    if (room - size < 2 && !(text = realloc(text, room *= 2))) break;
    size += fread(text + size, 1, room - size - 1, stdin);
  }
  if (!text || ferror(stdin)) fail(FAILED, "cannot read the ids from standard input");
  text[size] = 0;
  return text;
}

static id_list id_numbers(const char *option, const char *text, int64_t vocab) {
  if (!strcmp(text, "-")) text = standard_input();
  int64_t room = 1;
  for (const char *c = text; *c; c++) room += *c == ',' || *c == ' ' || *c == '\n';
  id_list list = {.ids = anonymous(room * (int64_t)sizeof *list.ids, "token ids")};
  for (const char *at = text; *at;) {
    char *end;
    long long id = strtoll(at, &end, 10);
    if (end == at || id < 0 || id >= vocab || (*end && !strchr(", \n", *end)))
      fail(WRONG_USE, "%s: '%.20s' is not a token id from 0 to %lld", option, at, (long long)vocab - 1);
    list.ids[list.count++] = id;
    at = end + strspn(end, ", \n");
  }
  if (!list.count) fail(WRONG_USE, "%s: give at least one token id", option);
  return list;
}

decode_options parse_decode_options(int count, char **words, const edgert_model *model) {
  int64_t vocab = model->vocab, most = (int64_t)1 << 40;
  decode_options given = {.threads = core_count(), .max_tokens = 256, .ends = {(int64_t *)model->ends, model->end_count}};
  int ignore_end = 0;
  for (int i = 1; i < count; i++) {
    const char *word = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
    struct {
      const char *name;
      int64_t *number, most;
    } numbers[] = {{"--max-tokens", &given.max_tokens, most}, {"--context", &given.context, most},
                   {"--chunk", &given.chunk, most}, {"--threads", &given.threads, 256},
                   {"--guess", &given.guesses, MOST_GUESSES}};
    int known = -1;
    for (int k = 0; k < 5; k++)
      if (!strcmp(word, numbers[k].name)) known = k;
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) help(words[0], model);
    if (!strcmp(word, "--json")) given.json = 1;
    else if (!strcmp(word, "--ignore-end")) ignore_end = 1;
    else if (known < 0 && strcmp(word, "--ids") && strcmp(word, "--end") && strcmp(word, "--dram"))
      fail(WRONG_USE, "%s is not an option: see --help", word);
    else if (!value) fail(WRONG_USE, "%s needs a value: see --help", word);
    else {
      i++;
      if (known >= 0) *numbers[known].number = option_number(word, value, numbers[known].most);
      else if (!strcmp(word, "--ids")) given.prompt = id_numbers(word, value, vocab);
      else if (!strcmp(word, "--end")) given.ends = id_numbers(word, value, vocab);
      else given.dram = option_amount(word, value);
    }
  }
  if (!given.prompt.count) fail(WRONG_USE, "give --ids 1,2,3, the tokens of the text so far: see --help");
  if (ignore_end) given.ends.count = 0;
  return given;
}
