"""The definitions of products with weights of few bits, as plain loops: what their kernels must agree with."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from compiler.codegen.jit import run_stages
from compiler.ops.registry import Node, find
from targets import get_target
from targets.kernels.nest import lower_nest
from targets.kernels.tensor import Tensor

RNG = np.random.default_rng(3)
M, K, N, BLOCK = 3, 32, 5, 16
HOST = get_target("host")


def evaluate(op: str, attrs: dict, *arrays: np.ndarray | None) -> list[np.ndarray]:
    """The operator's outputs, by generic loop nests."""
    leaves = [None if a is None else Tensor(a.shape, str(a.dtype), f"x{i}") for i, a in enumerate(arrays)]
    definition = find("edgert", op, 1)
    assert definition is not None
    made = definition.lower(Node(op, "edgert", 1, op, list(leaves), attrs, [True], [None] * len(leaves)))
    feeds = {id(t): a for t, a in zip(leaves, arrays, strict=True) if t is not None and a is not None}
    tensors = [made] if isinstance(made, Tensor) else list(made)  # type: ignore[arg-type]
    outs = [Tensor(t.shape, t.dtype, "out") for t in tensors]
    stages = lower_nest(list(zip(tensors, outs, strict=True)), HOST, op.lower())
    return run_stages(stages, feeds, outs, HOST)


def weights(swapped: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """uint4 codes, scales and zero points of blocks as stored, and float64 [K, N]."""
    q, zero = RNG.integers(0, 16, (K, N)), RNG.integers(0, 16, (K // BLOCK, N))
    scale = RNG.uniform(0.5, 1.5, (K // BLOCK, N)).astype(np.float32)
    real = (q - np.repeat(zero, BLOCK, axis=0)) * np.repeat(scale, BLOCK, axis=0).astype(float)
    stored = [q.astype(ml_dtypes.uint4), scale, zero.astype(ml_dtypes.uint4)]
    return [np.ascontiguousarray(a.T if swapped else a) for a in stored], real


@pytest.mark.parametrize("swapped", [False, True])
def test_floats_times_blocks(swapped: bool) -> None:
    stored, real = weights(swapped)
    a = RNG.standard_normal((M, K)).astype(np.float32)
    (got,) = evaluate("GemmBlocked", {"transB": int(swapped), "block": BLOCK}, a, *stored)
    np.testing.assert_allclose(got, a @ real, rtol=1e-5, atol=1e-4)  # sums of 32 products up to 60


def test_rows_of_bytes_times_blocks() -> None:
    stored, real = weights(False)
    a = RNG.standard_normal((M, K)).astype(np.float32)
    codes, scale, offset = evaluate("QuantizeRows", {"block": BLOCK}, a)
    np.testing.assert_array_equal(offset, -8 * codes.reshape(M, -1, BLOCK).astype(np.int32).sum(axis=2))
    x = codes.astype(float) * np.repeat(scale, BLOCK, axis=1)
    assert np.abs(x - a).max() <= scale.max() / 2 * (1 + 1e-5), "rounded to the nearest code"
    (got,) = evaluate("GemmInt4x8", {"transB": 0, "block": BLOCK}, codes, scale, offset, *stored)
    np.testing.assert_allclose(got, x @ real, rtol=1e-5, atol=1e-4)


def test_floats_times_tables() -> None:
    a, index = RNG.standard_normal((M, K)).astype(np.float32), RNG.integers(0, 16, (K, N)).astype(ml_dtypes.uint4)
    tables = RNG.standard_normal((2, 16)).astype(np.float32)
    book, scale = np.array([0, 1, 1, 0, 1], np.int32), RNG.uniform(0.5, 1.5, N).astype(np.float32)
    (got,) = evaluate("GemmLookup", {"transB": 0, "block": 0}, a, index, tables, scale, book)
    real = tables[book[None, :], index.astype(int)] * scale
    np.testing.assert_allclose(got, a.astype(float) @ real, rtol=1e-5, atol=1e-5)
    (got,) = evaluate("GemmLookup", {"transB": 0, "block": 0}, a, index, tables[0], None, None)
    np.testing.assert_allclose(got, a.astype(float) @ tables[0][index.astype(int)], rtol=1e-5, atol=1e-5)
