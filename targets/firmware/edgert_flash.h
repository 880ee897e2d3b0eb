/* What a model with weights in external flash needs of its board: reads that go on while the processor computes. */
#ifndef EDGERT_FLASH_H
#define EDGERT_FLASH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts to read `bytes` bytes of the weights from `offset` on into `to`; may return before they are there. */
void edgert_flash_read(uint32_t offset, void *to, uint32_t bytes);

/* Returns once every read that was started is done. */
void edgert_flash_wait(void);

#ifdef __cplusplus
}
#endif

#endif
