"""The exact search for an order: states are sets of units that have run, the one with the lowest peak so far first.

Bytes alive depend on the set alone, so the first time a set comes up it has its lowest peak, and the first complete set
is the answer. Where a chain of units can run at once without a new peak and leaves no more alive than there was, some
best order has it there: such a state has that one successor.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

from compiler.memory.order_graph import Graph

CHAIN = 12  # units of a chain that is looked at as one


@dataclass(frozen=True)
class Part:
    """Units to order, by index, after all those in `done`, which leave `live` bytes alive."""

    units: list[int]
    done: int
    live: int

    @property
    def first(self) -> int:
        """The index of the first unit, which no other part has."""
        return self.units[0]


Trace = tuple | None  # (what came before, a run of units)


def search(graph: Graph, part: Part, floor: int, limit: int, runs: int) -> tuple[list[int], int, bool]:
    """The order of the part's units with the least peak, if that is below `limit` (empty otherwise), the number of
    runs tried, and whether those were all that matter; at most about `runs` are. Peaks below `floor` count as it.
    """
    inside = set(part.units)
    goal = part.done | sum(1 << unit for unit in part.units)
    reached = {part.done: floor}
    ready = tuple(u for u in part.units if not graph.before[u] & ~part.done)
    # (peak, units done, number, set, bytes alive, what could run before, set then, what ran since, path)
    heap: list[tuple] = [(floor, 0, 0, part.done, part.live, ready, part.done, [], None)]
    tried = pushed = 0
    while heap:
        peak, _, _, done, live, ready, earlier, ran, trace = heappop(heap)
        if done == goal:
            return _path(trace), tried, True
        if reached[done] < peak:
            continue
        if tried >= runs:
            return [], tried, False
        ready = advance(graph, inside, ready, earlier, ran)
        steps = []
        chain: list[int] = []
        for unit in ready:
            most, left = graph.run(done, live, unit)
            if most <= peak and left <= live:
                chain = [unit]
                break
            steps.append((most, left, unit))
        tried += len(steps) + 1
        for most, left, unit in steps if not chain else []:
            if most <= peak:
                chain, looked = _chain(graph, inside, done, live, peak, (left, unit))
                tried += looked
                if chain:
                    break
        for run in [chain] if chain else [[unit] for most, _, unit in steps if most < limit]:
            most, left = graph.peak(run, done, live)
            most, then = max(most, peak), done | sum(1 << u for u in run)
            if most < limit and reached.get(then, limit) > most:
                reached[then] = most
                pushed += 1
                heappush(heap, (most, -then.bit_count(), pushed, then, left, ready, done, run, (trace, run)))
    return [], tried, True


def _chain(
    graph: Graph, inside: set[int], done: int, live: int, peak: int, start: tuple[int, int]
) -> tuple[list[int], int]:
    """Units from that of `start` (bytes alive after it, unit) on, each able to run only because of the one before, that
    end with no more alive than `live` and never exceed `peak`; none where there is no such chain. And how many were
    tried.
    """
    left, unit = start
    pending, tried = [([unit], done | 1 << unit, left)], 0
    while pending and tried < CHAIN * CHAIN:
        run, now, alive = pending.pop()
        if alive <= live:
            return run, tried
        if len(run) == CHAIN:
            continue
        for unit in graph.after[run[-1]]:
            if unit in inside and not graph.before[unit] & ~now:
                most, left = graph.run(now, alive, unit)
                tried += 1
                if most <= peak:
                    pending.append(([*run, unit], now | 1 << unit, left))
    return [], tried


def advance(graph: Graph, inside: set[int], ready: tuple[int, ...], done: int, run: list[int]) -> tuple[int, ...]:
    """The units that can run once `run` has."""
    for unit in run:
        done |= 1 << unit
        fresh = [u for u in graph.after[unit] if u in inside and not graph.before[u] & ~done]
        ready = (*(u for u in ready if u != unit), *fresh)
    return ready


def _path(trace: Trace) -> list[int]:
    runs = []
    while trace is not None:
        trace, run = trace
        runs.append(run)
    return [unit for run in reversed(runs) for unit in run]
