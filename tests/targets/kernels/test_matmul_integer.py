"""Products of two matrices of bytes known at run time against numpy, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from targets.target import Target

from .kernel_case import BYTE_ISAS, leaf, run


def check(
    target: Target, a_shape: tuple, b_shape: tuple, kinds: tuple = ("uint8", "uint8"), zeros: tuple = (119, 131),
    swapped: bool = False, symbolic: bool = False,
) -> None:  # fmt: skip
    """Random bytes over their whole range; b_shape as [..., K, N]."""
    rng = np.random.default_rng(5)
    sides, zero = [], [z - 128 * (kind == "int8") for z, kind in zip(zeros, kinds, strict=True)]
    for shape, kind in zip((a_shape, b_shape), kinds, strict=True):
        info = np.iinfo(kind)
        sides.append(rng.integers(info.min, info.max, shape, endpoint=True).astype(kind))
    a, b = sides
    want = (a.astype(np.int64) - zero[0]) @ (b.astype(np.int64) - zero[1])
    m, k, n = (tirx.Var(x, "int64") for x in "mkn") if symbolic else (*a_shape[-2:], b_shape[-1])
    held = np.ascontiguousarray(np.swapaxes(b, -1, -2)) if swapped else b
    inputs = [
        leaf(a, "a", (*a_shape[:-2], m, k)), leaf(held, "b", (*b_shape[:-2], *((n, k) if swapped else (k, n)))),
    ]  # fmt: skip
    attrs = {"a_zero": zero[0], "b_zero": zero[1], "transA": 0, "transB": int(swapped)}
    dims = {"m": a_shape[-2], "k": a_shape[-1], "n": b_shape[-1]} if symbolic else None
    feeds = dict(zip(inputs, (a, held), strict=True))
    out = (*want.shape[:-2], m, n)
    got = run("edgert.MatMulInteger", attrs, inputs, out, feeds, target, dims=dims, dtype="int32")
    np.testing.assert_array_equal(got, want)


SHAPES = [((2, 9, 32), (2, 32, 40)), ((70, 13), (13, 33)), ((3, 1, 5, 64), (2, 64, 7)), ((1, 3), (3, 1))]


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("swapped", [False, True])
def test_exact(target: Target, shapes: tuple, swapped: bool) -> None:
    """Odd sizes, batches that broadcast, the right side either way."""
    check(target, *shapes, swapped=swapped)


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("shapes", [SHAPES[0], SHAPES[1]], ids=str)
def test_sizes_known_at_run_time(target: Target, shapes: tuple) -> None:
    """Rows, depth and columns."""
    check(target, *shapes, symbolic=True, swapped=len(shapes[0]) == 3)


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_zero_points(target: Target) -> None:
    """None to take off, and an int8 right side."""
    check(target, (5, 20), (20, 18), zeros=(0, 128))
    check(target, (5, 20), (20, 18), ("uint8", "int8"), zeros=(255, 128))


@pytest.mark.parametrize("target", [p for p in BYTE_ISAS if p.values[0].dot != "vpdpbusd"])
def test_signed_left(target: Target) -> None:
    """int8 on both sides, where products take it."""
    check(target, (5, 22), (22, 18), ("int8", "int8"))
