"""Batched products of run-time values: transposes, broadcast batches, odd sizes, symbolic dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from targets.kernels.tensor import compute

from .kernel_case import ISAS, assert_close, leaf, run

CASES = [
    # batch of A, batch of B, M, K, N, transA, transB
    ((2,), (2,), 37, 20, 53, 0, 0),
    ((), (), 7, 9, 5, 1, 0),
    ((2, 1), (1, 3), 7, 9, 21, 0, 1),
    ((3,), (), 14, 33, 32, 1, 1),
    ((2, 3), (2, 3), 1, 40, 19, 0, 1),
    ((), (4,), 3, 16, 7, 0, 0),
    ((2,), (), 4, 35, 6, 0, 1),
    ((), (), 2, 3, 1, 0, 1),
    ((), (), 96, 200, 144, 0, 0),
]


def operands(ba, bb, m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m + k + n)
    return rng.standard_normal((*ba, m, k)).astype(np.float32), rng.standard_normal((*bb, k, n)).astype(np.float32)


def stored(array: np.ndarray, swapped: int) -> np.ndarray:
    return np.ascontiguousarray(array.swapaxes(-1, -2)) if swapped else array


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matmul(target, case) -> None:
    ba, bb, m, k, n, ta, tb = case
    a, w = operands(ba, bb, m, k, n)
    want = a.astype(float) @ w
    sa, sw = stored(a, ta), stored(w, tb)
    A, W = leaf(sa, "a"), leaf(sw, "w")
    scale = tirx.const(0.5, "float32")
    got = run(
        "edgert.MatMul", {"transA": ta, "transB": tb}, [A, W], want.shape, {A: sa, W: sw}, target,
        lambda o: compute(o.shape, "float32", lambda *i: o(*i) * scale, [o]),
    )  # fmt: skip
    assert_close(got, want * 0.5, np.abs(a) @ np.abs(w))


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("seq", [1, 5, 33, 128])
@pytest.mark.parametrize("swapped", [0, 1])
def test_scores_of_a_symbolic_sequence(target, seq: int, swapped: int) -> None:
    a, w = operands((2,), (2,), seq, 16, seq)
    length = tirx.Var("seq", "int64")
    sw = stored(w, swapped)
    A = leaf(a, "a", (2, length, 16))
    W = leaf(sw, "w", (2, length, 16) if swapped else (2, 16, length))
    got = run(
        "edgert.MatMul", {"transB": swapped}, [A, W], (2, length, length), {A: a, W: sw}, target, dims={"seq": seq}
    )
    assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("seq", [1, 19, 64])
def test_values_weighted_over_a_symbolic_sequence(target, seq: int) -> None:
    a, w = operands((3,), (3,), seq, seq, 20)
    length = tirx.Var("seq", "int64")
    A, W = leaf(a, "a", (3, length, length)), leaf(w, "w", (3, length, 20))
    got = run("edgert.MatMul", {}, [A, W], (3, length, 20), {A: a, W: w}, target, dims={"seq": seq})
    assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("pack", [0, 1])
def test_packed_and_unpacked_agree_with_numpy(target, pack: int) -> None:
    a, w = operands((2,), (2,), 19, 8, 41)
    A, W = leaf(a, "a"), leaf(w, "w")
    config = {"mr": 4, "nr": 2 * target.lanes("float32"), "pack": pack}
    got = run("edgert.MatMul", {}, [A, W], (2, 19, 41), {A: a, W: w}, target, config=config)
    assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("seq", [1, 6, 37])
def test_one_query_against_a_symbolic_sequence(target, seq: int) -> None:
    length = tirx.Var("seq", "int64")
    a, w = operands((2,), (2,), 1, 24, seq)
    keys = stored(w, 1)
    A, W = leaf(a, "a"), leaf(keys, "w", (2, length, 24))
    got = run("edgert.MatMul", {"transB": 1}, [A, W], (2, 1, length), {A: a, W: keys}, target, dims={"seq": seq})
    assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))


@pytest.mark.parametrize("target", ISAS)
def test_dot_products_of_a_symbolic_depth(target) -> None:
    depth = tirx.Var("k", "int64")
    a, w = operands((), (), 2, 29, 5)
    rows = stored(w, 1)
    A, W = leaf(a, "a", (2, depth)), leaf(rows, "w", (5, depth))
    got = run("edgert.MatMul", {"transB": 1}, [A, W], (2, 5), {A: a, W: rows}, target, dims={"k": 29})
    assert_close(got, a.astype(float) @ w, np.abs(a) @ np.abs(w))
