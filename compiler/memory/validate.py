"""Judge a memory plan without any code of the planners: a sweep over the steps."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from compiler.memory.request import ALIGNMENT, Request, align


class FaultKind(Enum):
    """What can be wrong with a plan."""

    WRONG_COUNT = "not one offset per request"
    NEGATIVE = "an offset below 0"
    MISALIGNED = "an offset that is no multiple of the alignment"
    PAST_END = "a buffer that ends beyond the arena"
    OVERLAP = "two buffers that are live in one step share bytes"
    WRONG_ARENA = "the arena is not the highest end of any buffer"


class Fault(NamedTuple):
    """One fault of a plan: its kind, the indices of the requests concerned, and what was found."""

    kind: FaultKind
    requests: tuple[int, ...]
    detail: str


def validate(
    requests: Sequence[Request], offsets: Sequence[int], arena_bytes: int, alignment: int = ALIGNMENT
) -> list[Fault]:
    """All faults of the plan that puts `requests[i]` at byte `offsets[i]` of `arena_bytes`; none when it is right.

    Of overlapping buffers at least one pair is named, not every pair. Buffers of size 0 overlap nothing.
    """
    if len(requests) != len(offsets):
        return [Fault(FaultKind.WRONG_COUNT, (), f"{len(offsets)} offsets for {len(requests)} requests")]
    faults = []
    end = 0
    for i, (request, at) in enumerate(zip(requests, offsets, strict=True)):
        if at < 0:
            faults.append(Fault(FaultKind.NEGATIVE, (i,), f"offset {at}"))
        if at % alignment:
            faults.append(Fault(FaultKind.MISALIGNED, (i,), f"offset {at}"))
        if at + request.size > arena_bytes:
            faults.append(Fault(FaultKind.PAST_END, (i,), f"ends at {at + request.size} of {arena_bytes}"))
        if request.size:
            end = max(end, align(at + request.size, alignment))
    faults += _overlaps(requests, offsets)
    if arena_bytes != end:
        faults.append(Fault(FaultKind.WRONG_ARENA, (), f"arena is {arena_bytes}, highest end is {end}"))
    return faults


def _overlaps(requests: Sequence[Request], offsets: Sequence[int]) -> list[Fault]:
    """Walk through the steps with the live buffers sorted by offset: as long as none overlap, checking the two
    neighbours of each newcomer is enough."""
    events = []
    for i, (size, first, last) in enumerate(requests):
        if size:
            events += [(first, 1, i), (last + 1, 0, i)]  # 0 before 1: what died before a step is gone in it
    live: list[tuple[int, int]] = []
    faults = []
    for step, born, i in sorted(events):
        entry = (offsets[i], i)
        if not born:
            live.pop(bisect_left(live, entry))
            continue
        at = bisect_left(live, entry)
        for _, other in live[max(at - 1, 0) : at + 1]:
            low, high = sorted((i, other), key=lambda j: offsets[j])
            if offsets[low] + requests[low].size > offsets[high]:
                detail = f"both live in step {step} and share bytes from {offsets[high]}"
                faults.append(Fault(FaultKind.OVERLAP, (min(i, other), max(i, other)), detail))
        insort(live, entry)
    return faults
