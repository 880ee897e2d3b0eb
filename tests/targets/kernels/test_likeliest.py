"""The likeliest column by bounds from the upper plane: the argmax of the whole product, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from targets.kernels.block_codes import BlockCodes
from targets.kernels.likeliest import likeliest
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Tensor
from targets.target import Target

from .kernel_case import BYTE_ISAS, leaf
from .test_gemm_blocks import quantized

LOWER = (2, 3)  # bits of the lower plane


def both(codes: np.ndarray, scale: np.ndarray, x: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest columns, the same whatever the planes, and the whole product row by row."""
    found = [_both(codes, scale, x, target, {"bits": 8, "size": 32, "zero": 128, "planes": low}) for low in LOWER]
    for winners, whole in found[1:]:
        np.testing.assert_array_equal(winners, found[0][0])
        np.testing.assert_array_equal(whole, found[0][1])
    return found[0]


def _both(
    codes: np.ndarray, scale: np.ndarray, x: np.ndarray, target: Target, attrs: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    weights = [leaf(codes, "codes", constant=True), leaf(scale, "scale", constant=True)]
    arrays = quantized(x, 32)[:3]
    rows = tirx.Var("rows", "int64")
    given = [leaf(a, f"x{i}", (rows, a.shape[1])) for i, a in enumerate(arrays)]
    feeds = {id(t): a for t, a in zip(given, arrays, strict=True)}
    out, winner = Tensor((rows, len(codes)), "float32", "o"), Tensor((rows,), "int64", "winner")
    whole = stages_for(Call("edgert.GemmBlocks", attrs, [*given, *weights], [out], out, [out]), target)
    assert whole is not None
    held = BlockCodes.of(attrs, weights, target)
    assert held is not None
    stages = likeliest(Call("", attrs, [*given, *weights], [winner], winner, [winner]), held, target)
    dims = {"rows": len(x)}
    return run_stages(stages, feeds, [winner], target, dims)[0], run_stages(whole, feeds, [out], target, dims)[0]


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize(("rows", "cols", "depth"), [(1, 70, 64), (3, 1000, 96), (8, 333, 256)])
def test_is_the_argmax(target: Target, rows: int, cols: int, depth: int) -> None:
    rng = np.random.default_rng(cols)
    codes = rng.integers(1, 256, (cols, depth)).astype(np.uint8)
    scale = rng.uniform(0.5, 1.5, (cols, depth // 32)).astype(np.float16)
    got, whole = both(codes, scale, rng.standard_normal((rows, depth)).astype(np.float32), target)
    np.testing.assert_array_equal(got, whole.argmax(axis=1))


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_first_of_equals_and_near_ties(target: Target) -> None:
    """Rows that are alike, or differ in a code's lowest bit: bounds tell none of them apart."""
    rng = np.random.default_rng(2)
    codes = np.repeat(rng.integers(1, 256, (1, 64)).astype(np.uint8), 200, axis=0)
    scale = np.full((200, 2), 0.01, np.float16)
    x = rng.standard_normal((4, 64)).astype(np.float32)
    assert both(codes, scale, x, target)[0].tolist() == [0] * 4
    codes[rng.integers(0, 200, 40), rng.integers(0, 64, 40)] ^= 1
    got, whole = both(codes, scale, x, target)
    np.testing.assert_array_equal(got, whole.argmax(axis=1))
    got, whole = both(codes, scale, np.zeros((2, 64), np.float32), target)
    assert not whole.any()
    assert got.tolist() == [0, 0]


def test_no_number_has_no_likeliest() -> None:
    target = BYTE_ISAS[0].values[0]
    codes, scale = np.full((20, 32), 200, np.uint8), np.ones((20, 1), np.float16)
    assert both(codes, scale, np.full((1, 32), np.nan, np.float32), target)[0].tolist() == [-1]


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_hold_where_lower_bits_are_at_their_limits(sign: int) -> None:
    """The winner's lower bits all add to the product, and all others' upper bits promise a little more."""
    target = BYTE_ISAS[0].values[0]
    x = np.full((1, 64), sign, np.float32)
    codes = np.full((500, 64), 136 if sign > 0 else 127 - 8 + 7, np.uint8)
    codes[77] = 136 - 1 if sign > 0 else 120
    codes[78] = 143 if sign > 0 else 112
    got, whole = both(codes, np.ones((500, 2), np.float16), x, target)
    assert got[0] == whole.argmax()
