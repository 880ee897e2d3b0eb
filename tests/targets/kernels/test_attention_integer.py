"""Attention between bytes against numpy: integer products exactly, probabilities but for ties of their rounding."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from targets.target import Target

from .kernel_case import BYTE_ISAS, leaf, run

pytestmark = pytest.mark.slow

SCALE, STEP = 7e-4, 1 / 255


def codes_of(q: np.ndarray, k: np.ndarray, zeros: dict, mask: np.ndarray | None, levels: int) -> np.ndarray:
    """The probabilities' codes [B, H, S, T] before rounding, in float64."""
    left, right = q.astype(np.int64) - zeros["q_zero"], k.astype(np.int64) - zeros["k_zero"]
    scores = np.einsum("bhsd,bhtd->bhst", left, right) * SCALE
    if mask is not None:
        scores = scores + (np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask)
    power = np.exp(scores - scores.max(-1, keepdims=True))
    return np.minimum(power / power.sum(-1, keepdims=True) / STEP, levels)


def check(
    target: Target, shape: tuple, sizes: tuple, layout: str = "BSHD", types: str = "uuu",
    mask: np.ndarray | None = None, levels: int = 255, zeros: tuple = (119, 117, 128), symbolic: bool = False,
) -> None:  # fmt: skip
    """One random case; shape: batch, heads, queries, keys."""
    rng = np.random.default_rng(sum(shape) + sum(sizes))
    batch, heads, queries, keys = shape
    kinds = [{"u": "uint8", "s": "int8"}[t] for t in types]
    zero = {f"{n}_zero": z - 128 * (t == "s") for n, z, t in zip("qkv", zeros, types, strict=True)}
    full = []
    for kind, length, size in zip(kinds, (queries, keys, keys), (sizes[0], sizes[0], sizes[1]), strict=True):
        data = np.clip(rng.normal(128, 40, (batch, heads, length, size)), 0, 255).astype(np.int64)
        full.append((data - 128 * (kind == "int8")).astype(kind))
    q, k, v = full
    s, t = (tirx.Var("s", "int64"), tirx.Var("t", "int64")) if symbolic else (queries, keys)
    inputs, feeds = [], {}
    for name, array, length in (("q", q, s), ("k", k, t), ("v", v, t)):
        given = np.ascontiguousarray(array.transpose(0, 2, 1, 3)) if layout == "BSHD" else array
        here = [batch, length, heads * array.shape[3]] if layout == "BSHD" else [batch, heads, length, array.shape[3]]
        inputs.append(leaf(given.reshape([d if isinstance(d, int) else -1 for d in here]), name, here))
        feeds[inputs[-1]] = given.reshape([d if isinstance(d, int) else -1 for d in here])
    if mask is not None:
        names = {queries: s, keys: t}
        here = [d if d == 1 else names.get(d, d) if i > 1 else d for i, d in enumerate(mask.shape)]
        inputs.append(leaf(mask, "mask", here))
        feeds[inputs[-1]] = mask
    attrs = {"num_heads": heads, "layout": layout, "scale": SCALE, "step": STEP, "levels": levels, **zero}
    out = (batch, s, heads * sizes[1]) if layout == "BSHD" else (batch, heads, s, sizes[1])
    dims = {"s": queries, "t": keys} if symbolic else None
    got = run("edgert.IntegerAttention", attrs, inputs, out, feeds, target, dims=dims, dtype="int32")
    if layout == "BSHD":
        got = got.reshape(batch, queries, heads, sizes[1]).transpose(0, 2, 1, 3)
    exact = codes_of(q, k, zero, mask, levels)
    right = v.astype(np.int64) - zero["v_zero"]
    want = np.einsum("bhst,bhtd->bhsd", np.rint(exact).astype(np.int64), right)
    # scores of up to 2^21 steps in float32 and a power of two good to 1e-7: a code is off by 1 only where its exact
    # value lies that near to a half
    near = np.abs(exact - np.floor(exact) - 0.5) < 1e-5 * (exact + 1)
    slack = np.einsum("bhst,bhtd->bhsd", near.astype(np.int64), np.abs(right))
    assert (np.abs(got - want) <= slack).all(), np.abs(got - want).max()
    assert near.mean() < 0.01


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((1, 2, 16, 64), (32, 32)), ((2, 3, 37, 45), (32, 32)), ((1, 1, 5, 130), (64, 48)), ((1, 9, 1, 7), (36, 20))],
)
def test_products_and_softmax(target: Target, shape: tuple, sizes: tuple) -> None:
    """Whole blocks and ragged ones, heads that fill vectors and that do not."""
    check(target, shape, sizes)


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_zero_points_and_layout(target: Target) -> None:
    """Zero points at both ends, heads first, and codes that saturate below 255."""
    check(target, (2, 2, 19, 33), (32, 16), "BHSD", zeros=(0, 255, 3), levels=127)


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("queries", [3, 40])
def test_symbolic_lengths(target: Target, queries: int) -> None:
    """Lengths known only at run time, fewer than a block among them."""
    mask = np.where(np.arange(50) < 41, 0, -10000).astype(np.float32).reshape(1, 1, 1, 50)
    check(target, (1, 2, queries, 50), (32, 32), mask=mask, symbolic=True)


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_masks(target: Target) -> None:
    """One for each query, selecting; a query that sees only one key."""
    causal = np.tril(np.ones((21, 21), bool)).reshape(1, 1, 21, 21)
    check(target, (2, 2, 21, 21), (64, 64), mask=causal)


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("types", ["uss", "usu"])
def test_signed_sides(target: Target, types: str) -> None:
    """int8 keys and values as they are."""
    check(target, (1, 2, 18, 20), (32, 32), types=types)


@pytest.mark.parametrize("target", [p for p in BYTE_ISAS if p.values[0].dot != "vpdpbusd"])
def test_signed_queries(target: Target) -> None:
    """int8 queries, where the products take them."""
    check(target, (1, 2, 18, 20), (32, 32), types="sss")
