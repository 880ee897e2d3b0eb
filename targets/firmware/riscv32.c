/* Start-up of a 32-bit RISC-V hart in machine mode: data and bss; semihosting by EBREAK; minstret as the clock. */
#include "board.h"

extern uint32_t edgert_data_load[], edgert_data_start[], edgert_data_end[], edgert_bss_start[], edgert_bss_end[];

int32_t edgert_semihost(int32_t operation, void *argument) {
  register int32_t a0 __asm__("a0") = operation;
  register void *a1 __asm__("a1") = argument;
  __asm__ volatile(
      ".option push\n .option norvc\n .balign 16\n"  /* the three may not straddle a page */
      " slli x0, x0, 0x1f\n ebreak\n srai x0, x0, 7\n .option pop"
      : "+r"(a0)
      : "r"(a1)
      : "memory");
  return a0;
}

void edgert_clock_start(void) {}

uint64_t edgert_clock(void) {
  uint32_t high, low, again;
  do {
    __asm__ volatile("csrr %0, minstreth\n csrr %1, minstret\n csrr %2, minstreth" : "=r"(high), "=r"(low), "=r"(again));
  } while (high != again);
  return ((uint64_t)high << 32) | low;
}

__attribute__((used)) void edgert_start(void) {
  for (uint32_t *from = edgert_data_load, *to = edgert_data_start; to < edgert_data_end;) *to++ = *from++;
  for (uint32_t *to = edgert_bss_start; to < edgert_bss_end;) *to++ = 0;
  main();
  for (;;) {
  }
}

static __attribute__((used, aligned(4))) void fault(void) {
  edgert_semihost(0x18, (void *)0x20023);
  for (;;) {
  }
}

__attribute__((section(".vectors"), naked, used)) void edgert_reset(void) {
  __asm__ volatile(
      ".option push\n .option norelax\n la gp, __global_pointer$\n .option pop\n"
      " la sp, edgert_stack_top\n la t0, fault\n csrw mtvec, t0\n j edgert_start");
}
