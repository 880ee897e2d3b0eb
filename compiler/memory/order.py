"""Of all orders in which a graph can run, one with the least peak of live bytes.

After Serenity (Ahn et al., Memory-aware Scheduling of Irregularly Wired Neural Networks, 2020): the graph is cut at
nodes that everything else comes before or after, and each part between two of them is searched by itself, over the
sets of nodes that may have run (order_search.py), bounded by what a beam search found (order_beam.py). Bounded by
numbers of steps tried, never by a clock: the same graph always gets the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from compiler.memory.liveness import Aliases
from compiler.memory.order_beam import beam
from compiler.memory.order_graph import Graph, Id, Node, bits
from compiler.memory.order_search import Part, search

RUNS = 60_000  # units that the exact search may try to run, over all parts: some tenths of a second
STEPS = 40_000  # and a beam search


@dataclass(frozen=True)
class Ordering:
    """A topological order of the nodes, by index; bytes alive at its fullest, and at that of the given order.

    optimal: no order has a lower peak. Where it is not known to be, `bound` still says what none can go below.
    """

    order: list[int]
    peak: int
    given: int
    bound: int
    optimal: bool


def order(
    nodes: Sequence[Node[Id]], sizes: Mapping[Id, int], kept: Collection[Id] = (), initial: Collection[Id] = (),
    aliases: Aliases[Id] | None = None, together: Sequence[int] | None = None,
) -> Ordering:  # fmt: skip
    """The order of `nodes`, which come in one that works, with the least peak; the given one where none is better.

    sizes: bytes of every buffer, aligned already if they will be. kept: buffers that live to the end; initial: those
    there from the start. aliases: views, which live and die with their root; nodes that touch the same bytes keep
    their order. together: a label for every node; neighbours with one label stay in sequence.

    Raises ValueError when a node reads a buffer that nothing wrote before, or for labels that are not runs.
    """
    graph = Graph(nodes, sizes, kept, initial, aliases, together)
    given, _ = graph.peak(range(graph.count))
    bound = max([graph.start, *(graph.floor(unit) for unit in range(graph.count))], default=0)
    parts = _parts(graph)
    # the fullest first: the others then need not get below it
    peaks = {part.first: graph.peak(part.units, part.done, part.live)[0] for part in parts}
    best = {part.first: part.units for part in parts}
    floor, runs, optimal = bound, RUNS, True
    for part in sorted(parts, key=lambda p: (-peaks[p.first], p.first)):
        found, limit = part.units, peaks[part.first]
        if limit > floor and len(part.units) > 1:
            narrow, peak = beam(graph, part, floor, STEPS // 8)
            if peak < limit:
                found, limit = narrow, peak
            if limit > floor:
                exact, tried, complete = search(graph, part, floor, limit, runs)
                runs -= tried
                if exact:
                    found, limit = exact, graph.peak(exact, part.done, part.live)[0]
                elif not complete:
                    wide, peak = beam(graph, part, floor, STEPS)
                    if peak < limit:
                        found, limit = wide, peak
                    optimal = optimal and limit <= floor
        best[part.first] = found
        floor = max(floor, limit)
    units = [unit for part in parts for unit in best[part.first]]
    peak, _ = graph.peak(units)
    if peak >= given:
        units, peak = list(range(graph.count)), given
    result = [index for unit in units for index in graph.units[unit]]
    return Ordering(result, peak, given, peak if optimal else bound, optimal)


def _parts(graph: Graph) -> list[Part]:
    """The stretches between nodes that everything else comes before or after, those nodes each a part of its own."""
    parts: list[Part] = []
    done, live = 0, graph.start
    for unit in range(graph.count):
        if graph.earlier(unit) | graph.later(unit) | 1 << unit == graph.all:
            for units in (bits(graph.earlier(unit) & ~done), [unit]):
                if units:
                    parts.append(Part(units, done, live))
                    live = graph.peak(units, done, live)[1]
                    done |= sum(1 << u for u in units)
    if rest := bits(graph.all & ~done):
        parts.append(Part(rest, done, live))
    return parts


__all__ = ["Node", "Ordering", "order"]
