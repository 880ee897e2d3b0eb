"""The one interface between the compiler and a placement heuristic."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register


class Request(NamedTuple):
    """A buffer to place: `size` bytes, live from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


# Takes all requests at once, returns one byte offset (a multiple of ALIGNMENT) per request, in the same order.
Planner = Callable[[Sequence[Request]], list[int]]


def align(size: int, alignment: int = ALIGNMENT) -> int:
    """Round `size` bytes up to the next multiple of `alignment`."""
    return -(-size // alignment) * alignment


def live_bytes(requests: Sequence[Request], alignment: int = ALIGNMENT) -> list[int]:
    """Bytes live in every step in which something begins or has just ended, sizes rounded up to `alignment`."""
    change: dict[int, int] = {}
    for size, first, last in requests:
        change[first] = change.get(first, 0) + align(size, alignment)
        change[last + 1] = change.get(last + 1, 0) - align(size, alignment)
    return list(itertools.accumulate(change[step] for step in sorted(change)))


def lower_bound(requests: Sequence[Request], alignment: int = ALIGNMENT) -> int:
    """Bytes that no arena can go below: the most that is live in any one step, sizes rounded up to `alignment`."""
    return max(live_bytes(requests, alignment), default=0)
