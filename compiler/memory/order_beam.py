"""A beam search for an order: unit by unit, keeping the states with the lowest peak, among those the fewest bytes."""

from __future__ import annotations

from compiler.memory.order_graph import Graph
from compiler.memory.order_search import Part, advance

WIDEST = 64
LEAST = 8  # units tried in a state, however little is left to try


def beam(graph: Graph, part: Part, floor: int, steps: int) -> tuple[list[int], int]:
    """An order of the part's units and its peak. About `steps` steps are tried, which makes the beam's width.

    Peaks below `floor` count as it, so that there what leaves the fewest bytes alive comes first.
    """
    inside = set(part.units)
    ready = tuple(u for u in part.units if not graph.before[u] & ~part.done)
    # (peak, bytes alive, place in the given order, set, what can run, units so far)
    states: list[tuple] = [(floor, part.live, (), part.done, ready, ())]
    for length in range(len(part.units)):
        tried, left_over = 0, len(part.units) - length
        each = max(LEAST, steps // (left_over * len(states)))
        found: dict[int, tuple] = {}
        for peak, live, _, done, ready, trace in states:
            for unit in _some(ready, each):
                most, left = graph.run(done, live, unit)
                then, most = done | 1 << unit, max(peak, most)
                tried += 1
                known = found.get(then)
                if known is None or (most, left) < known[:2]:
                    found[then] = (most, left, unit, done, ready, trace)
        # what is left to try, shared out over the units that are left
        steps -= tried
        width = max(1, min(WIDEST, steps * len(states) // max(1, left_over * tried)))
        best = sorted(found.items(), key=lambda item: (*item[1][:3], item[0]))[:width]
        states = [
            (most, left, unit, then, advance(graph, inside, ready, done, [unit]), (trace, unit))
            for then, (most, left, unit, done, ready, trace) in best
        ]
    peak, _, _, _, _, trace = states[0]
    units = []
    while trace:
        trace, unit = trace
        units.append(unit)
    return units[::-1], peak


def _some(ready: tuple[int, ...], most: int) -> tuple[int, ...]:
    """At most about `most` of the units that can run: those that wait the longest, and those that just became able."""
    return ready if len(ready) <= most else (*ready[: most // 2], *ready[-(most - most // 2) :])
