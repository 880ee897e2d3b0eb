"""The format of coded weights, written here and read by edgert/native/coding.c.

The bytes of elements lie apart, all first ones, all second ones and so on: the exponents of a bfloat16 (DFloat11,
Zhang et al. 2025) or float32 take under three bits, its fraction all of its bits. Each of these planes
is coded for itself, in four streams that a decoder goes through at once, or stands as it is where codes save nothing.

    uint32 bytes | uint8 of an element | uint8 bits: which planes are coded | uint16 0
    of each plane: its bytes, or: 128 bytes of code lengths, two a byte, the even symbol's in the low half,
                   then uint32 bytes of each of four streams, then those
"""

from __future__ import annotations

import struct

import numpy as np

from flashload.coding import huffman

STREAMS = 4
WIDTHS = (1, 2, 4)  # bytes of an element
LEAST_SAVED = 0.01  # of a plane: less is not worth decoding


def encode(data: np.ndarray, width: int) -> bytes:
    """Bytes (uint8) coded as elements of `width` bytes, of which there is a whole number."""
    planes, coded = [], 0
    for number in range(width):
        plane = np.ascontiguousarray(data[number::width])
        lengths = huffman.code_lengths(np.bincount(plane, minlength=256))
        # four runs of equal length but for the last
        each = -(-len(plane) // STREAMS)
        bits = int(lengths.astype(np.int64)[plane].sum())
        if bits / 8 + 160 >= len(plane) * (1 - LEAST_SAVED):
            planes.append(plane.tobytes())
            continue
        coded |= 1 << number
        streams = [huffman.encode(plane[i * each : (i + 1) * each], lengths) for i in range(STREAMS)]
        table = (lengths[0::2] | lengths[1::2] << 4).astype(np.uint8).tobytes()
        planes.append(table + struct.pack("<4I", *map(len, streams)) + b"".join(streams))
    return struct.pack("<IBBH", len(data), width, coded, 0) + b"".join(planes)


def width_of(data: np.ndarray) -> tuple[int, list[float]]:
    """The width whose planes hold the least information, and how much each holds, in bits a byte (of order 0); a larger
    one only where it saves a two-hundredth more."""
    found: list[tuple[float, int, list[float]]] = []
    for width in WIDTHS:
        if len(data) % width == 0:
            bits = [_bits(data[i::width]) for i in range(width)]
            found.append((sum(bits) / width, width, bits))
    least = min(mean for mean, _, _ in found)
    return next((width, bits) for mean, width, bits in found if mean <= least + 0.04)


def _bits(plane: np.ndarray) -> float:
    counts = np.bincount(plane, minlength=256)
    share = counts[counts > 0] / max(1, len(plane))
    return float(-(share * np.log2(share)).sum())
