"""Attention over a cache against numpy: every row and format, the cache's bytes, masks, windows, threads."""

from __future__ import annotations

import numpy as np
import pytest

from targets.target import Target

from .cached_case import Case, arrays_of, call_of, open_shapes, prepare, run_case
from .kernel_case import ISAS


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [1, 2, 17, 64])
def test_rows_after_a_past(target: Target, rows: int) -> None:
    """Nothing before, one row, a ragged block, many; heads that share a group's keys."""
    for past in (0, 1, 63, 500):
        run_case(Case(rows, past, heads=6, groups=2), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(
    ("heads", "groups", "size", "rotary", "interleaved"),
    [(1, 1, 64, 0, 0), (4, 1, 256, 0, 0), (9, 3, 128, 32, 1), (4, 2, 80, 20, 1), (5, 1, 96, 24, 0)],
)
def test_heads(target: Target, heads: int, groups: int, size: int, rotary: int, interleaved: int) -> None:
    """Heads of all sizes, alone and many to a group; rotated in part, as neighbours or as halves."""
    for rows, past in ((1, 130), (3, 0), (20, 70)):
        run_case(Case(rows, past, heads, groups, size, rotary, 0, interleaved), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [1, 40])
def test_window(target: Target, rows: int) -> None:
    """A window within the past, one that reaches from there into the new rows, one longer than all, and of one row."""
    for past, window in ((500, 100), (120, 100), (60, 100), (30, 1)):
        run_case(Case(rows, past, window=window), target)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [7, 30])
def test_tree(target: Target, rows: int) -> None:
    """Branches of a tree of guesses: rows of the same position that do not see each other."""
    rng = np.random.default_rng(rows)
    parents = [-1] + [int(rng.integers(-1, i)) for i in range(1, rows)]
    seen, depth = np.eye(rows, dtype=np.uint8), np.zeros(rows, np.int64)
    for i, parent in enumerate(parents):
        if parent >= 0:
            seen[i] |= seen[parent]
            depth[i] = depth[parent] + 1
    for window in (0, 100):
        run_case(Case(rows, 98, window=window), target, seen, 98 + depth)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [2, 12])
def test_row_that_sees_little(target: Target, rows: int) -> None:
    """Only itself, or nothing at all (zeros), is no reason for a NaN."""
    run_case(Case(rows, 0), target, np.eye(rows, dtype=np.uint8))
    run_case(Case(rows, 0), target, np.zeros((rows, rows), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [4, 33])
def test_bytes(target: Target, rows: int) -> None:
    """Codes with scales: what is stored is near, what is read is what was stored."""
    for past in (0, 75):
        run_case(Case(rows, past, heads=6, groups=2, format="i8"), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ISAS)
def test_bytes_of_large_heads(target: Target) -> None:
    """Heads whose vectors are taken in loops."""
    for rows in (1, 20):
        run_case(Case(rows, 70, heads=4, size=256, format="i8", interleaved=0), target)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [1, 40])
def test_threads(target: Target, rows: int) -> None:
    """Tasks in any order, two at a time, and a cache that the last row fills."""
    for format_ in ("f16", "i8"):
        run_case(Case(rows, 1100, heads=6, groups=2, format=format_, spare=0), target, threads=2)


@pytest.mark.parametrize("target", ISAS)
def test_senseless_past_stays_within_the_cache(target: Target) -> None:
    """Whatever number of old rows is given, nothing beyond the last row is written."""
    case = Case(2, 20)
    arrays = arrays_of(case, None, None) | {"past": np.array([1 << 40])}
    stages, leaves, results = call_of(target, arrays, case, {})
    call, made = prepare(stages, leaves, results, arrays, target, {})
    call()
    after, before = made[id(results[1])].view(np.uint16), arrays["cache"].view(np.uint16)
    changed = (after != before).any(axis=(2, 4))
    assert changed[1, :, -2:].all(), "the last rows are written"
    assert changed.sum() == 4, "and no others"


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [1, 12])
def test_sizes_known_beforehand(target: Target, rows: int) -> None:
    """Only one of the two ways is compiled where the number of rows is fixed."""
    run_case(Case(rows, 20), target, symbolic=False)


@pytest.mark.parametrize("target", ISAS[-1:])
@pytest.mark.parametrize(("past", "window"), [(507, 0), (2300, 0), (700, 100)])
def test_rows_together_have_the_bits_of_each_alone(target: Target, past: int, window: int) -> None:
    """Where a row ends a block, a stretch or a window's first block that its neighbours do not."""
    case = Case(8, past, heads=6, groups=2, window=window)
    arrays = arrays_of(case, None, None)
    shapes, dims = open_shapes(arrays)
    stages, leaves, results = call_of(target, arrays, case, shapes)
    call, made = prepare(stages, leaves, results, arrays, target, dims)
    call()
    together, cache = (made[id(t)].copy() for t in results)
    for i in range(case.rows):
        alone = {name: arrays[name][i : i + 1] for name in ("q", "k", "v", "positions")}
        alone |= {"seen": np.ones((1, 1), np.uint8), "past": np.array([past + i]), "cache": cache}
        call, made = prepare(stages, leaves, results, arrays | alone, target, dims | {"s": 1})
        call()
        np.testing.assert_array_equal(made[id(results[0])][0], together[i])
