"""Exact placement for cases that the heuristics leave open, in the manner of MiniMalloc.

Moffitt, "MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning", ASPLOS 2023. search.c
decides whether the buffers fit into one capacity; here that is asked of several orders of preference in turn, with
more and more work each, and of capacities between the lower bound and the best plan known. All limits count work and
never look at a clock: the same requests always get the same offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from compiler.memory import native
from compiler.memory.by_breadth import by_breadth
from compiler.memory.by_lifetime import by_area, by_lifetime
from compiler.memory.by_size import by_size
from compiler.memory.place import arena_bytes
from compiler.memory.preferences import preferences
from compiler.memory.request import ALIGNMENT, Request, align, lower_bound

EFFORT = 20_000_000  # visits of buffers and sections, 2 to 5 ns each: what any compile can spare
THOROUGH = 100 * EFFORT  # seconds
FIRST_ROUND = 50_000  # visits per order before the next gets its turn; doubled every round
MOST_BUFFERS = 2_000  # the search recurses as deep, and keeps lists of their pairs
MOST_UNITS = 1 << 30  # offsets are 32-bit units in the search


@dataclass(frozen=True)
class Solution:
    """The best placement found. Sizes in bytes."""

    offsets: list[int]
    arena_bytes: int
    lower_bound: int  # proven: equal to arena_bytes when the placement is optimal
    nodes: int  # placements of one buffer that were tried
    work: int  # visits of buffers and sections


def exact(requests: Sequence[Request]) -> list[int]:
    """Byte offsets for `requests`: the best of the greedy heuristics, improved within EFFORT."""
    return solve(requests).offsets


def solve(
    requests: Sequence[Request], start: Sequence[int] | None = None, effort: int = EFFORT, alignment: int = ALIGNMENT
) -> Solution:
    """The smallest arena for `requests` that `effort` visits find, never larger than that of `start`.

    `start` are offsets of a valid plan, by default the best of the greedy heuristics. Offsets and sizes are multiples
    of `alignment`; `start` has to be as well.
    """
    if start is None:
        plans = [planner(requests) for planner in (by_size, by_breadth, by_lifetime, by_area)]
        start = min(plans, key=lambda offsets: arena_bytes(requests, offsets))
    best = list(start)
    arena, bound = arena_bytes(requests, best, alignment), lower_bound(requests, alignment)
    real = [i for i, request in enumerate(requests) if request.size]
    sizes = [align(requests[i].size, alignment) for i in real]
    unit = gcd(*sizes)
    if arena == bound or len(real) > MOST_BUFFERS or sum(sizes) // unit >= MOST_UNITS:
        return Solution(best, arena, bound, 0, 0)
    placed = [requests[i] for i in real]
    spans = _spans(placed, [size // unit for size in sizes])
    tried = _Capacities(spans, preferences(spans, np.array([r.last - r.first + 1 for r in placed])), effort)
    for answer in tried.shrink(bound // unit, -(-arena // unit)):
        for i, at in zip(real, answer.offsets.tolist(), strict=True):
            best[i] = at * unit
    arena = arena_bytes(requests, best, alignment)
    return Solution(best, arena, tried.proven * unit, tried.nodes, effort - tried.work)


def _spans(requests: Sequence[Request], sizes: Sequence[int]) -> np.ndarray:
    """Rows of size, first section, section after the last. Sections end where a life begins or ends."""
    borders = sorted({request.first for request in requests} | {request.last + 1 for request in requests})
    index = {step: i for i, step in enumerate(borders)}
    rows = [(size, index[r.first], index[r.last + 1]) for size, r in zip(sizes, requests, strict=True)]
    return np.array(rows, dtype=np.int32)


class _Capacities:
    """Which capacities to try, and what is left to spend on them."""

    def __init__(self, spans: np.ndarray, orders: list[np.ndarray], work: int) -> None:
        self.work = work
        self.nodes = 0
        self.proven = 0  # units: nothing smaller can hold the buffers
        self._spans = spans
        self._orders = orders

    def shrink(self, low: int, high: int) -> Iterator[native.Answer]:
        """Every placement found on the way from `high` units, known to do, to `low`, the lower bound.

        The bound comes first, with half the work, then halves of what lies between. A capacity that ran out of
        work counts as too small, though it proves nothing; what work is left at the end goes into another pass.
        """
        self.proven = low
        while self.proven < high and self.work > 0:
            low = trial = self.proven
            share = self.work // 2
            while low < high and self.work > 0:
                answer = self._decide(trial, min(share + 1, self.work))
                if answer.status == native.FOUND:
                    high = int((answer.offsets + self._spans[:, 0]).max())
                    yield answer
                else:
                    low = trial + 1
                if answer.status == native.NONE:  # nor does anything smaller do
                    self.proven = low = max(low, min(answer.next, high))
                trial = (low + high) // 2
                share = self.work // (high - low).bit_length() if low < high else 0

    def _decide(self, capacity: int, work: int) -> native.Answer:
        """The first answer that any of the orders gives for `capacity`, taking turns, within `work`."""
        turn = max(FIRST_ROUND, 4 * native.preparation(self._spans))
        while True:
            for order in self._orders:
                answer = native.search(self._spans, order, capacity, min(turn, work))
                self.work -= answer.work
                self.nodes += answer.nodes
                work -= answer.work
                if answer.status != native.OUT_OF_WORK or work <= 0:
                    return answer
            turn *= 2
