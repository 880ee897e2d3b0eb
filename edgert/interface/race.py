"""Time several ways to do the same thing, taking turns so that each meets the same noise."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SLICE = 0.02  # seconds that one contender runs before it is the next one's turn


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the best, the middle one, and how many calls were timed."""

    best: float
    median: float
    calls: int


def race(contenders: Mapping[str, Callable[[], object]], seconds: float = 2.0, rounds: int = 10) -> dict[str, Timing]:
    """Call every contender in turn (A B A B ...) for about `seconds` each, over at least `rounds` turns.

    The first calls, which warm caches and may allocate, are not counted. The best of many is the figure to compare:
    on a shared machine noise only ever adds time.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        for _ in range(3):
            call()
    share = min(seconds / rounds, SLICE)
    until = time.perf_counter() + seconds * len(contenders)
    turn = 0
    while turn < rounds or time.perf_counter() < until:
        turn += 1
        for name, call in contenders.items():
            mine = times[name]
            call()  # the one after a change of contender finds cold caches: not counted
            stop = time.perf_counter() + share
            while True:
                start = time.perf_counter()
                call()
                end = time.perf_counter()
                mine.append(end - start)
                if end >= stop:
                    break
    return {name: Timing(min(got), sorted(got)[len(got) // 2], len(got)) for name, got in times.items()}
