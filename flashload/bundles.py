"""Rows of a table by neuron, as flash is to have them: what is read together lies together, in pieces of sectors."""

from __future__ import annotations

import numpy as np

SECTOR = 512  # bytes that most devices read at least, past the page cache


def row_bytes(used: int) -> int:
    """Bytes from one row to the next, for rows of `used`: small ones lie within a sector, so that one read has one."""
    if used >= SECTOR:
        return used
    return 1 << (used - 1).bit_length()


def pack(codes: np.ndarray, bits: int, each: int) -> np.ndarray:
    """Rows uint8 [F, N] of codes as uint8 [F, each]. Of 4 bits: code i and, in the high bits, code i + N / 2."""
    half = codes.shape[1] // 2
    packed = codes if bits == 8 else codes[:, :half] | codes[:, half:] << 4
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, each - packed.shape[1]))))
