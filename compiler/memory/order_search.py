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


def search(graph: Graph, part: Part, floor: int, limit: int, states: int) -> tuple[list[int], int, bool]:
    """The order of the part's units with the least peak, if that is below `limit` (empty otherwise), the number of
    states looked at, and whether those were all that matter. Peaks below `floor` count as it.
    """
    inside = set(part.units)
    goal = part.done | sum(1 << unit for unit in part.units)
    reached = {part.done: floor}
    ready = tuple(u for u in part.units if not graph.before[u] & ~part.done)
    heap: list[tuple] = [(floor, 0, 0, part.done, part.live, ready, None)]
    tried = pushed = 0
    while heap:
        peak, _, _, done, live, ready, trace = heappop(heap)
        if done == goal:
            return _path(trace), tried, True
        if reached[done] < peak:
            continue
        if tried >= states:
            return [], tried, False
        tried += 1
        steps = [(graph.run(done, live, unit), unit) for unit in ready]
        chain = next(([u] for (most, left), u in steps if most <= peak and left <= live), None)
        if chain is None:
            chains = (_chain(graph, inside, done, live, peak, step) for step in steps if step[0][0] <= peak)
            chain = next((c for c in chains if c), None)
        for run in [chain] if chain else [[u] for (most, _), u in steps if most < limit]:
            most, left = graph.peak(run, done, live)
            most, then = max(most, peak), done | sum(1 << u for u in run)
            if most < limit and reached.get(then, limit) > most:
                reached[then] = most
                pushed += 1
                now = advance(graph, inside, ready, done, run)
                heappush(heap, (most, -then.bit_count(), pushed, then, left, now, (trace, run)))
    return [], tried, True


def _chain(graph: Graph, inside: set[int], done: int, live: int, peak: int, step: tuple) -> list[int]:
    """Units from that of `step` on, each able to run only because of the one before, that end with no more alive than
    `live` and never exceed `peak`; none where there is no such chain.
    """
    (_, left), unit = step
    pending = [([unit], done | 1 << unit, left)]
    while pending:
        run, now, alive = pending.pop()
        if alive <= live:
            return run
        if len(run) == CHAIN:
            continue
        for unit in graph.after[run[-1]]:
            if unit in inside and not graph.before[unit] & ~now:
                most, left = graph.run(now, alive, unit)
                if most <= peak:
                    pending.append(([*run, unit], now | 1 << unit, left))
    return []


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
