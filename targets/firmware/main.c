/* The harness around a model: reads inputs from the file that its command line names, run after run until the file
 * ends, and writes the outputs and what each run cost to the second one. Files and command line by semihosting. */
#include "board.h"
#include "model_io.h"  /* generated: the model's tensors, arena and call */

#define PAINT 0xA5A5A5A5u
#define EDGERT_NO_STACK (-0x5AC4)  /* the model wrote below the stack, or all of it */

typedef struct {
  int32_t status;
  uint32_t stack_bytes;  /* below the call of the model, high-water mark */
  uint32_t arena_bytes;  /* up to the last byte written */
  uint32_t ticks_low, ticks_high;
} report;

static char line[64];

static uint32_t length(const char *text) {
  uint32_t n = 0;
  while (text[n]) n++;
  return n;
}

static int32_t open_file(const char *name, uint32_t mode) {
  uint32_t block[3] = {(uint32_t)(uintptr_t)name, mode, length(name)};
  return edgert_semihost(0x01, block);
}

static uint32_t transfer(int32_t operation, int32_t file, void *data, uint32_t bytes) {
  uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)data, bytes};
  return (uint32_t)edgert_semihost(operation, block);  /* bytes not moved */
}

static void leave(int32_t code) {
  uint32_t block[2] = {0x20026, (uint32_t)code};  /* ADP_Stopped_ApplicationExit */
  edgert_semihost(0x20, block);
  for (;;) {
  }
}

/* The next word of the command line, ended with 0. */
static char *word(char **at) {
  while (**at == ' ') ++*at;
  char *start = *at;
  while (**at && **at != ' ') ++*at;
  if (**at) *(*at)++ = 0;
  return start;
}

static uint32_t *paint(uint32_t *from, uint32_t *to) {
  for (uint32_t *p = from; p < to; p++) *(volatile uint32_t *)p = PAINT;
  return to;
}

__attribute__((noinline)) static void run_once(report *r) {
  uint32_t here;
  uint32_t *stack = (uint32_t *)(((uintptr_t)&here - 64) & ~(uintptr_t)3);
  paint(edgert_stack_low, stack);
  uint64_t before = edgert_clock();
  uint64_t nothing = edgert_clock() - before;  /* what asking takes */
  before = edgert_clock();
  r->status = edgert_model_run();
  uint64_t ticks = edgert_clock() - before - nothing;
  r->ticks_low = (uint32_t)ticks;
  r->ticks_high = (uint32_t)(ticks >> 32);
  uint32_t *low = edgert_stack_low, *high = edgert_model_arena + EDGERT_ARENA_WORDS;
  while (low < stack && *low == PAINT) low++;
  if (low == edgert_stack_low) r->status = EDGERT_NO_STACK;
  r->stack_bytes = (uint32_t)((uintptr_t)&here - (uintptr_t)low);
  while (high > edgert_model_arena && high[-1] == PAINT) high--;
  r->arena_bytes = (uint32_t)((uintptr_t)high - (uintptr_t)edgert_model_arena);
}

int main(void) {
  uint32_t block[2] = {(uint32_t)(uintptr_t)line, sizeof line};
  char *at = line;
  if (edgert_semihost(0x15, block)) leave(2);
  word(&at);
  int32_t in = open_file(word(&at), 1), out = open_file(word(&at), 5);
  if (in < 0 || out < 0) leave(2);
  edgert_clock_start();
  for (;;) {
    paint(edgert_model_arena, edgert_model_arena + EDGERT_ARENA_WORDS);  /* inputs may lie in it */
    for (uint32_t i = 0; i < EDGERT_INPUTS; i++) {
      uint32_t missing = transfer(0x06, in, edgert_model_inputs[i].data, edgert_model_inputs[i].bytes);
      if (missing) leave(i == 0 && missing == edgert_model_inputs[i].bytes ? 0 : 3);
    }
    report r = {0, 0, 0, 0, 0};
    run_once(&r);
    uint32_t failed = transfer(0x05, out, &r, sizeof r);
    for (uint32_t i = 0; i < EDGERT_OUTPUTS; i++)
      failed |= transfer(0x05, out, edgert_model_outputs[i].data, edgert_model_outputs[i].bytes);
    if (failed) leave(4);
  }
}
