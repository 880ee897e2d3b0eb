/* What the harness needs of a core: semihosting, a counter of instructions, and how deep the stack has been. */
#ifndef EDGERT_BOARD_H
#define EDGERT_BOARD_H
#include <stdint.h>

extern uint32_t edgert_stack_low[], edgert_stack_top[];  /* linker script */

int32_t edgert_semihost(int32_t operation, void *argument);
void edgert_clock_start(void);
uint64_t edgert_clock(void);  /* ticks; what one is worth in instructions depends on the machine */
int main(void);

#endif
