"""The order with the least peak: as good as trying every order on small graphs, and right on graphs of known shape."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.memory import Aliases
from compiler.memory.order import Node, Ordering, order
from tests.memory.graphs import GRAPHS, Case, bytes_alive


def allowed(case: Case, units: list[list[int]]) -> list[list[int]]:
    """Every order of the units that keeps the order of any two nodes of which one writes bytes the other touches."""

    def span(buffer: int) -> tuple[int, int, int]:
        root, at = case.aliases.find(buffer)
        return root, at, at + case.sizes[buffer]

    def meet(i: int, j: int) -> bool:
        pairs = [(a, b) for a in case.nodes[i].writes for b in [*case.nodes[j].reads, *case.nodes[j].writes]]
        spans = [(span(a), span(b)) for a, b in pairs]
        return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a, b in spans)

    count = len(case.nodes)
    fixed = [(i, j) for j in range(count) for i in range(j) if meet(i, j) or meet(j, i)]
    orders = [[i for unit in candidate for i in unit] for candidate in permutations(units)]
    return [order for order in orders if all(order.index(i) < order.index(j) for i, j in fixed)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to 7 nodes: several writers of one buffer, a concatenation in place, kept and initial buffers, scratch,
    results over inputs, nodes that stay together."""
    count = draw(st.integers(1, 7))
    given, whole = count, count + 1  # buffers that no node is named after
    sizes = {b: draw(st.integers(1, 9)) for b in range(count + 1)}
    nodes = []
    for i in range(count):
        reads = draw(st.sets(st.sampled_from([given, *range(i)]), max_size=2))
        again = draw(st.sets(st.sampled_from(range(i)), max_size=1)) if i and draw(st.integers(0, 4)) == 0 else set()
        over = [(r, i) for r in sorted(reads - again) if sizes[r] == sizes[i]] if draw(st.booleans()) else []
        nodes.append(Node(sorted(reads), [i, *sorted(again)], draw(st.integers(0, 4)), over))
    aliases: Aliases[int] = Aliases()
    if count > 2 and draw(st.booleans()):
        first, second, reader = sorted(draw(st.permutations(range(count)))[:3])
        sizes[whole] = sizes[first] + sizes[second]
        aliases.add(first, whole, 0)
        aliases.add(second, whole, sizes[first])
        nodes[reader] = replace(nodes[reader], reads=[*nodes[reader].reads, whole])
        nodes = [replace(node, over=[]) for node in nodes]  # a part is smaller than what would take its place
    kept = draw(st.sets(st.sampled_from(range(count)), max_size=2))
    labels = list(accumulate(draw(st.lists(st.sampled_from([0, 1, 1, 1]), min_size=count, max_size=count))))
    return Case(nodes, sizes, kept, {given}, aliases, labels)


def units_of(case: Case) -> list[list[int]]:
    labels = case.together or list(range(len(case.nodes)))
    return [[i for i, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)]


def ordered(case: Case) -> Ordering:
    return order(case.nodes, case.sizes, case.kept, case.initial, case.aliases, case.together)


@settings(max_examples=300, deadline=None)
@given(case=cases())
def test_no_order_is_better(case: Case) -> None:
    found = ordered(case)
    choices = allowed(case, units_of(case))
    assert found.order in choices
    peaks = [bytes_alive(case, candidate) for candidate in choices]
    assert found.given == bytes_alive(case, range(len(case.nodes)))
    assert found.peak == bytes_alive(case, found.order) == min(peaks)
    assert found.optimal and found.bound == found.peak


@pytest.mark.parametrize("name", GRAPHS)
def test_networks(name: str) -> None:
    case = GRAPHS[name]()
    found = ordered(case)
    assert sorted(found.order) == list(range(len(case.nodes)))
    assert found.peak == bytes_alive(case, found.order) <= found.given == bytes_alive(case, range(len(case.nodes)))
    assert found.bound <= found.peak
    place = {node: at for at, node in enumerate(found.order)}
    assert all(place[read] < place[i] for i, node in enumerate(case.nodes) for read in node.reads)
    assert ordered(case) == found
