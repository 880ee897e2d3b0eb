/* Checks of what was read: SHA-256 the first time, and something much faster ever after. */
#ifndef EDGERT_DIGEST_H
#define EDGERT_DIGEST_H
#include <stdint.h>

/* FIPS 180-4. With the processor's own instructions where it has them. */
void edgert_sha256(const uint8_t *bytes, int64_t n, uint8_t digest[32]);

/* The same of two, in little more than half of the time where they are about as long. */
void edgert_sha256_pair(const uint8_t *const bytes[2], const int64_t n[2], uint8_t digests[2][32]);

/* 64 bits that change with any change of the bytes but for one in 2^64; at memory speed. Not cryptographic. */
uint64_t edgert_mix(const uint8_t *bytes, int64_t n);

#endif
