"""The exact planner against exhaustive search, and what `plan` makes of its proofs."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.memory import Request, plan, validate
from compiler.memory.exact import solve
from compiler.memory.place import arena_bytes
from compiler.memory.planners import PLANNERS
from compiler.memory.request import lower_bound

# Found by search: the fullest step holds 5, and no placement below 6 exists (all sizes, first and last steps).
ABOVE_ITS_BOUND = [
    Request(size, first, last)
    for size, first, last in [
        (2, 0, 0), (3, 0, 0), (2, 1, 1), (3, 1, 2), (2, 2, 2), (2, 3, 3), (1, 3, 3), (1, 4, 4), (2, 3, 5), (2, 4, 6),
        (1, 5, 7), (1, 6, 8), (1, 7, 8), (1, 8, 9), (1, 10, 10), (2, 9, 11), (1, 11, 11), (1, 7, 12), (1, 12, 12),
        (2, 13, 13), (1, 6, 13), (3, 14, 14), (2, 12, 14), (3, 15, 15), (3, 16, 16), (1, 17, 17), (2, 15, 18),
        (1, 18, 19), (1, 19, 19), (2, 17, 19), (1, 19, 19),
    ]
]  # fmt: skip


@st.composite
def full_arenas(draw: st.DrawFn) -> list[Request]:
    """Requests that fill every step to the same few bytes, so that no gap is allowed; sometimes some are left out."""
    capacity, steps = draw(st.integers(4, 6)), draw(st.integers(2, 10))
    live: list[tuple[int, int]] = []  # size, first
    requests = []
    for step in range(steps):
        while free := capacity - sum(size for size, _ in live):
            live.append((draw(st.integers(1, min(free, 3))), step))
        for _ in range(draw(st.integers(1, 2))):
            if live:
                size, first = live.pop(draw(st.integers(0, len(live) - 1)))
                requests.append(Request(size, first, step))
    requests += [Request(size, first, steps - 1) for size, first in live]
    dropped = draw(st.sets(st.integers(0, len(requests) - 1), max_size=2))
    return [request for i, request in enumerate(requests) if i not in dropped]


def fits(requests: list[Request], capacity: int) -> bool:
    """Whether the requests can be placed, by keeping every way to place those that live at a time."""
    states: set[frozenset[tuple[int, int]]] = {frozenset()}
    for i in sorted(range(len(requests)), key=lambda i: requests[i].first):
        size, first, _ = requests[i]
        after = set()
        for state in states:
            live = [(j, at) for j, at in state if requests[j].last >= first]
            for at in range(capacity - size + 1):
                if all(at >= other + requests[j].size or other >= at + size for j, other in live):
                    after.add(frozenset([*live, (i, at)]))
        states = after
    return bool(states)


def stacked(requests: list[Request]) -> list[int]:
    """The worst plan: everything above everything else."""
    return [sum(request.size for request in requests[:i]) for i in range(len(requests))]


@settings(max_examples=150, deadline=None)
@given(requests=full_arenas())
def test_small_cases_are_optimal_and_proven(requests: list[Request]) -> None:
    found = solve(requests, stacked(requests), alignment=1)
    assert validate(requests, found.offsets, found.arena_bytes, alignment=1) == []
    assert found.arena_bytes == found.lower_bound
    assert fits(requests, found.arena_bytes)
    assert not requests or not fits(requests, found.arena_bytes - 1)


def test_a_gap_that_has_to_be_is_proven() -> None:
    assert lower_bound(ABOVE_ITS_BOUND, alignment=1) == 5
    found = solve(ABOVE_ITS_BOUND, stacked(ABOVE_ITS_BOUND), alignment=1)
    assert (found.arena_bytes, found.lower_bound) == (6, 6)
    assert not fits(ABOVE_ITS_BOUND, 5)
    # `plan` reports the proven bound, and looks no further
    lines = [Request(64 * size, first, last) for size, first, last in ABOVE_ITS_BOUND]
    made = plan(lines)
    assert made.arena_bytes == made.lower_bound == 6 * 64


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.builds(
            lambda size, first, steps: Request(size, first, first + steps),
            st.integers(0, 500), st.integers(0, 30), st.integers(0, 15),
        ),
        max_size=60,
    ),
    alignment=st.sampled_from([1, 16, 64]),
    effort=st.sampled_from([0, 1_000, 100_000, 1_000_000]),
)  # fmt: skip
def test_any_effort_gives_a_valid_plan_and_none_worse_than_its_start(
    requests: list[Request], alignment: int, effort: int
) -> None:
    start = PLANNERS["hill-climb"](requests)
    found = solve(requests, start, effort, alignment)
    assert validate(requests, found.offsets, found.arena_bytes, alignment) == []
    assert lower_bound(requests, alignment) <= found.lower_bound <= found.arena_bytes
    assert found.arena_bytes <= arena_bytes(requests, start, alignment)
    assert solve(requests, start, effort, alignment) == found


def test_effort_finds_what_the_heuristics_miss() -> None:
    rng = random.Random(1)
    firsts = [rng.randrange(100) for _ in range(100)]
    requests = [Request(rng.randint(1, 4_000) * 64, first, first + int(rng.expovariate(1 / 6))) for first in firsts]
    without = plan(requests, effort=0)
    made = plan(requests)
    assert (made.planner, made.arena_bytes) == ("exact", made.lower_bound)
    assert without.arena_bytes > without.lower_bound == made.lower_bound


@pytest.mark.parametrize("requests", [[], [Request(0, 0, 3)], [Request(64, 0, 0)]])
def test_trivial_cases_need_no_search(requests: list[Request]) -> None:
    found = solve(requests)
    assert (found.arena_bytes, found.nodes) == (sum(request.size for request in requests), 0)


def test_too_many_buffers_are_left_as_they_are() -> None:
    # one step each, so that any of them could lie at 0
    requests = [Request(64, i, i) for i in range(2_001)]
    start = [0] * 2_000 + [64]
    assert solve(requests, start).offsets == start
