"""What stays in memory and what is streamed, for a budget of a whole process.

Every streamed byte costs a run the same time, so it does not matter which weights stay (an LRU cache over weights that
are read in turn would miss them all); how large the ring is does, since its bytes cannot stay. The planner plays the
runtime's queue for a few rings and takes the fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import product

from flashload.layout import PAGE, up
from flashload.profile import FlashProfile
from flashload.visits import Stream, chosen, ring_jobs
from targets.errors import DoesNotFit

READS = ((1, 256 << 10), (2, 256 << 10), (4, 256 << 10), (2, 512 << 10), (4, 512 << 10), (6, 512 << 10), (2, 1 << 20))
"""How many reads at once, of how many bytes each, are tried; the ring has room for them beside the largest visit."""
HUGE = 2 << 20  # bytes of a large page, which a device fills faster than small ones: larger rings consist of them
TIMEOUT_MS = 30_000
GEMV = 0.75  # of the memory's speed that products with one row reach, about
READER_BYTES = 64 << 10  # a reader's stack and the system's records of it
NEAR = 1.05  # within so much of the fastest, the plan of the most reads at once: others use the device, too


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes. parts: what the budget goes to, by name. read_bytes: of one run. predicted times in seconds:
    run_seconds of one run of few tokens, of which compute_seconds computing; first_seconds until a fresh process has
    read what stays and run once.
    """

    budget: int
    parts: dict[str, int]
    pinned_bytes: int
    ring_bytes: int
    block_bytes: int
    depth: int
    read_bytes: int
    run_seconds: float
    compute_seconds: float
    first_seconds: float
    profile: str
    gap_bytes: int = 0  # chosen rows so near to each other are read at once

    @property
    def streams(self) -> bool:
        """Whether anything is read while the model runs."""
        return self.read_bytes > 0


def plan(
    budget: int, fixed: Mapping[str, int], stream: Stream, profile: FlashProfile, compute: float | None,
    reader_bytes: int = READER_BYTES,
) -> Plan:  # fmt: skip
    """The fastest plan for `budget` bytes, of which `fixed` (by what for) are gone already.

    compute: seconds that a run computes when nothing has to be waited for, where known. reader_bytes: what each thread
    that reads takes. Raises DoesNotFit with what is
    needed and there.
    """
    always = refuse(budget, fixed, stream, reader_bytes)
    total, taken = stream.streamed_bytes, sum(always.values())
    compute = (stream.resident_bytes + total) / (GEMV * profile.dram) if compute is None else compute
    if taken + total <= budget:
        depth, block = READS[-1]
        readers = depth * reader_bytes if any(table.ends for table in stream.lookups) else 0
        rest = max(0, min(stream.table_only_bytes, budget - taken - total - readers))
        read, gap = stream.chosen_read(rest), gap_of(profile, depth, block)
        seconds = compute + read / profile.speed(block, depth) + look_seconds(stream, rest, profile)
        total += rest
        first = (stream.resident_bytes + total) / profile.speed(block, 1) + seconds
        parts = {**always, "pinned weights": total} | ({"readers": readers} if readers else {})
        return Plan(budget, parts, total, 0, block, depth, read, seconds, compute, first, profile.name, gap)
    found: list[Plan] = []
    every = [sum(up(stream.segments[i].size, PAGE) for i, _ in visit.pieces) for visit in stream.visits]
    computes = [compute * size / sum(every) for size in every]
    rings = {stream.least_ring: 0, stream.small_ring: stream.large_bytes}  # and what has to stay for that
    for (depth, block), (least, large) in product(READS, rings.items()):
        wanted = least + depth * block
        for ring in (up(wanted, HUGE) if wanted > HUGE else wanted, least):
            pinned = budget - taken - ring - depth * reader_bytes
            if pinned < large or (ring == least and depth > 1):
                continue
            jobs = ring_jobs(stream, chosen(stream, pinned))
            speed = profile.speed(block, depth)
            seconds = play(jobs, computes, ring, speed, depth)
            parts = {**always, "pinned weights": pinned, "ring": ring, "readers": depth * reader_bytes}
            rest = max(0, pinned - stream.streamed_bytes)
            rows = stream.chosen_read(rest)
            seconds += rows / speed + look_seconds(stream, rest, profile)
            first, read = (stream.resident_bytes + pinned) / speed + seconds, sum(map(sum, jobs)) + rows
            gap = gap_of(profile, depth, block)
            found.append(
                Plan(budget, parts, pinned, ring, block, depth, read, seconds, compute, first, profile.name, gap)
            )
    best = min(made.run_seconds for made in found)
    return min((p for p in found if p.run_seconds <= NEAR * best), key=lambda p: (-p.depth, p.run_seconds))


def look_seconds(stream: Stream, kept: int, profile: FlashProfile) -> float:
    """What steps of a run wait for rows that they look up, one read each, when `kept` bytes of tables stay: nothing can
    be computed meanwhile."""
    missing = 1 - min(1.0, kept / stream.table_only_bytes) if stream.table_only_bytes else 0.0
    steps = {table.step: table.bytes for table in stream.lookups if not table.chosen}
    return missing * sum(profile.seconds(size, size, random=True) for size in steps.values())


def gap_of(profile: FlashProfile, depth: int, block: int) -> int:
    """Bytes that are read in the time of one small read from anywhere: over so many it is better to read on."""
    return int(profile.seconds(PAGE, PAGE, depth, random=True) * profile.speed(block, depth)) // PAGE * PAGE


def refuse(budget: int, fixed: Mapping[str, int], stream: Stream, reader_bytes: int = READER_BYTES) -> dict[str, int]:
    """Raises DoesNotFit where even the least that streaming takes is too much; else what is always in memory."""
    always = {**fixed, "resident weights": stream.resident_bytes}
    if stream.table_bytes:
        always["rows of tables"] = stream.table_bytes
    taken = sum(always.values())
    need = taken + min(stream.streamed_bytes, stream.least_ring + reader_bytes)
    if need > budget:
        listed = ", ".join(f"{name} {size}" for name, size in always.items())
        raise DoesNotFit(
            f"needs at least {need} bytes ({listed}, ring {stream.least_ring}), the budget is {budget}",
            need=need, have=budget,
        )  # fmt: skip
    return always


def play(
    jobs: Sequence[Sequence[int]], computes: Sequence[float], ring: int, speed: float, depth: int = 1, runs: int = 3
) -> float:
    """Seconds of the last of a few runs: of each visit, the bytes of what comes through the ring and the seconds that
    it computes. `depth` readers have `speed` bytes a second together, each an equal share.
    """
    ends: list[tuple[int, float]] = []  # where in the ring a job ends, counted on and on, and when it is released
    head = tail = released = 0
    readers = [0.0] * depth  # when each is free
    now = before = free = 0.0
    for _ in range(runs):
        before = now
        for sizes, compute in zip(jobs, computes, strict=True):
            begun, there = len(ends), 0.0
            for size in sizes:
                left = ring - head % ring
                at = head + left if left < size else head
                while at + size - tail > ring and released < begun:
                    tail, free = ends[released]
                    released += 1
                head = at + size
                done = max(heappop(readers), free) + size * depth / speed
                heappush(readers, done)
                there = max(there, done)
                ends.append((head, done))
            now = max(now, there) + compute
            ends[begun:] = [(end, now) for end, _ in ends[begun:]]
    return now - before
