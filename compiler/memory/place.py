"""Place buffers one by one in a given order: what all the greedy heuristics share.

They differ in the order, and in which gap between the already placed buffers they take.
"""

from collections.abc import Sequence

import numpy as np

from compiler.memory.request import ALIGNMENT, Request, align


def place(requests: Sequence[Request], order: Sequence[int], best_fit: bool = False) -> list[int]:
    """Offsets in bytes for `requests`, placed in `order` (a permutation of their indices).

    Each buffer goes into a gap among the placed buffers that share a step with it: the lowest gap that is large
    enough, or with `best_fit` the smallest one (the lowest among equals); above all of them where none is.
    """
    count = len(requests)
    offsets = [0] * count
    # Placed buffers, kept sorted by start, so that a selection of them is sorted too.
    table = np.zeros((4, count), dtype=np.int64)
    placed = 0
    for index in order:
        size, first, last = requests[index]
        size = align(size)
        if not size:
            continue
        start, end, since, until = table[:, :placed]
        together = (since <= last) & (until >= first)
        starts = start[together]
        # Placed neighbours may overlap each other's addresses (they need not live together): gaps open only
        # above the highest end so far.
        floor = np.maximum.accumulate(np.concatenate(([0], end[together])))
        room = starts - floor[:-1]
        gaps = np.flatnonzero(room >= size)
        if not gaps.size:
            at = int(floor[-1])
        elif best_fit:
            at = int(floor[gaps[np.argmin(room[gaps])]])
        else:
            at = int(floor[gaps[0]])
        offsets[index] = at
        slot = int(np.searchsorted(start, at))
        table[:, slot + 1 : placed + 1] = table[:, slot:placed].copy()
        table[:, slot] = at, at + size, first, last
        placed += 1
    return offsets


def arena_bytes(requests: Sequence[Request], offsets: Sequence[int], alignment: int = ALIGNMENT) -> int:
    """Bytes of the arena that `offsets` need: the highest end, sizes rounded up to `alignment`."""
    ends = [at + align(r.size, alignment) for r, at in zip(requests, offsets, strict=True) if r.size]
    return max(ends, default=0)
