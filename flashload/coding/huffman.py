"""Canonical Huffman codes of at most `LIMIT` bits for bytes."""

from __future__ import annotations

import numpy as np

LIMIT = 11  # bits: a decoder's table of 2^11 entries stays in the first cache, 5 codes fit into one 64-bit read


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Bits of each symbol's code, 0 for those that do not occur; counts: how often each does, int [256].

    Package-merge (Larmore and Hirschberg 1990): the best code under the limit.
    """
    symbols = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.uint8)
    if len(symbols) == 1:
        lengths[symbols] = 1
        return lengths
    singles = sorted((int(counts[s]), (int(s),)) for s in symbols)
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(LIMIT):
        merged = sorted(singles + packages, key=lambda package: package[0])
        pairs = zip(merged[::2], merged[1::2], strict=False)
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
    for _, members in packages[: len(symbols) - 1]:
        np.add.at(lengths, list(members), 1)
    return lengths


def codes(lengths: np.ndarray) -> np.ndarray:
    """The canonical codes of these lengths: in order of length, then of symbol, counting up."""
    found = np.zeros(len(lengths), np.uint32)
    code = 0
    for length in range(1, LIMIT + 1):
        code <<= 1
        for symbol in np.flatnonzero(lengths == length):
            found[symbol] = code
            code += 1
    return found


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """Codes one behind the other from the highest bit on; the last byte is filled up with zeros."""
    if not symbols.size:
        return b""
    bits = lengths[symbols]
    ends = np.cumsum(bits, dtype=np.int64)
    inside = np.arange(ends[-1]) - np.repeat(ends - bits, bits)  # which bit of its code each bit is
    shifts = np.repeat(bits, bits) - 1 - inside
    return np.packbits((np.repeat(codes(lengths)[symbols], bits) >> shifts) & 1).tobytes()
