/* The runner: opens any artifact and runs it. One static program, no Python, no libraries. */
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "opened.h"

static noreturn void help(const char *program) {
  printf("Usage: %s ARTIFACT [options]       run it; ARTIFACT --help lists its inputs and the options\n", program);
  printf("       %s --machine [FOLDER [PART]]   what this machine is and has, as JSON\n", program);
  printf("       %s --members ARTIFACT       its manifest and where its members are, as JSON\n\n", program);
  printf("For `edgert deploy`: --assemble PART OLD BYTES, --install PART FILE SHA256, --rollback FILE.\n");
  printf("Exit codes: 0 right, 1 failed, 2 wrong use, 4 does not fit.\n");
  exit(RIGHT);
}

/* Whether the words are `option` and at least `least`, at most `most` more. */
static int is(int count, char **words, const char *option, int least, int most) {
  if (strcmp(words[1], option)) return 0;
  if (count - 2 < least || count - 2 > most) fail(WRONG_USE, "%s: another number of words is expected, see --help", option);
  return 1;
}

int main(int count, char **words) {
  if (count < 2) fail(WRONG_USE, "give an artifact: see --help");
  if (!strcmp(words[1], "--help") || !strcmp(words[1], "-h")) help(words[0]);
  if (is(count, words, "--machine", 0, 2)) print_machine(count > 2 ? words[2] : ".", count > 3 ? words[3] : NULL);
  else if (is(count, words, "--members", 1, 1)) print_members(words[2]);
  else if (is(count, words, "--assemble", 3, 3)) assemble(words[2], words[3], strtoll(words[4], NULL, 10));
  else if (is(count, words, "--install", 3, 3)) install(words[2], words[3], words[4]);
  else if (is(count, words, "--rollback", 1, 1)) roll_back(words[2]);
  else if (words[1][0] == '-') fail(WRONG_USE, "%s is not an option: see --help", words[1]);
  else {
    opened o;
    open_artifact(&o, words[1]);
    session s = {.model = &o.model, .entry = o.run, .place = opened_place(&o), .dram = o.dram};
    return (json_get(o.manifest, "decoder") ? run_decoder : run_tensors)(&s, count - 1, words + 1);
  }
  return fflush(stdout) || ferror(stdout) ? FAILED : RIGHT;
}
