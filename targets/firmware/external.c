/* The harness's driver of an external flash: the file that the simulator offers, read by semihosting. A simulator that
 * counts takes the time of each read from the calls themselves. */
#include "board.h"
#include "edgert_flash.h"

__attribute__((noinline)) void edgert_flash_read(uint32_t offset, void *to, uint32_t bytes) {
  static const char name[] = "flash.bin";
  uint32_t open[3] = {(uint32_t)(uintptr_t)name, 1, sizeof name - 1};
  uint32_t file = (uint32_t)edgert_semihost(0x01, open);
  uint32_t seek[2] = {file, offset};
  edgert_semihost(0x0A, seek);
  uint32_t block[3] = {file, (uint32_t)(uintptr_t)to, bytes};
  edgert_semihost(0x06, block);
  edgert_semihost(0x02, &file);
}

__attribute__((noinline)) void edgert_flash_wait(void) { __asm__ volatile(""); }
