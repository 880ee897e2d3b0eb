/* Start-up of a Cortex-M: vectors, data and bss, FPU and MVE on; semihosting by BKPT; SysTick as the clock. */
#include "board.h"

extern uint32_t edgert_data_load[], edgert_data_start[], edgert_data_end[], edgert_bss_start[], edgert_bss_end[];

#define SYST ((volatile uint32_t *)0xE000E010)  /* control, reload, current (Armv7-M ARM, B3.3) */
#define CPACR (*(volatile uint32_t *)0xE000ED88)

static volatile uint32_t wraps;

int32_t edgert_semihost(int32_t operation, void *argument) {
  register int32_t r0 __asm__("r0") = operation;
  register void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void edgert_clock_start(void) {
  SYST[1] = 0xFFFFFF;
  SYST[2] = 0;
  SYST[0] = 7;
  while (!SYST[2]) {
  }
}

uint64_t edgert_clock(void) {
  uint32_t before, value;
  do {
    before = wraps;
    value = SYST[2];
  } while (before != wraps);
  return ((uint64_t)before << 24) + (0xFFFFFF - value);
}

static void tick(void) { wraps = wraps + 1; }

static void fault(void) {
  uint32_t why[2] = {0x20023, 0};  /* ADP_Stopped_RunTimeErrorUnknown */
  edgert_semihost(0x18, (void *)(uintptr_t)why[0]);
  for (;;) {
  }
}

void edgert_reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  CPACR |= 0xFu << 20;
  __asm__ volatile("dsb\n isb");
#endif
  for (uint32_t *from = edgert_data_load, *to = edgert_data_start; to < edgert_data_end;) *to++ = *from++;
  for (uint32_t *to = edgert_bss_start; to < edgert_bss_end;) *to++ = 0;
  main();
  for (;;) {
  }
}

typedef void (*handler)(void);
__attribute__((section(".vectors"), used)) const handler edgert_vectors[16] = {
    (handler)(uintptr_t)edgert_stack_top, edgert_reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0,
    fault, tick};
