"""Products and convolutions of bytes: sums equal numpy's integers exactly, on every way to multiply bytes."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from tvm import tirx

from targets.kernels.rounding import to_integer
from targets.kernels.tensor import Tensor, compute
from targets.target import Target
from tests.targets.kernels.kernel_case import ARM_ISAS, BYTE_ISAS, leaf, run

RNG = np.random.default_rng(7)


def bytes_of(*shape: int) -> np.ndarray:
    """Activations over the whole range, the ends more often than chance: there 16-bit sums would saturate."""
    values = RNG.integers(0, 256, shape)
    return np.where(RNG.random(shape) < 0.3, 255, values).astype(np.uint8)


def weights_of(*shape: int) -> np.ndarray:
    """Weights over the whole range of int8, the ends more often than chance."""
    values = RNG.integers(-128, 128, shape)
    return np.where(RNG.random(shape) < 0.3, RNG.choice([-128, 127], shape), values).astype(np.int8)


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize(
    ("rows", "depth", "cols", "swapped"),
    [(1, 1, 1, 0), (5, 7, 9, 1), (33, 30, 70, 0), (3, 64, 130, 1), (17, 65, 16, 0), (40, 256, 33, 0)],
)
def test_gemm_of_bytes_is_exact(target: Target, rows: int, depth: int, cols: int, swapped: int) -> None:
    a, b = bytes_of(rows, depth), weights_of(depth, cols)
    left, right = leaf(a, "a"), leaf(np.ascontiguousarray(b.T) if swapped else b, "b", constant=True)
    attrs = {"transB": swapped}
    got = run("edgert.GemmInteger", attrs, [left, right], (rows, cols), {left: a}, target, dtype="int32")
    np.testing.assert_array_equal(got, a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("target", ARM_ISAS)
@pytest.mark.parametrize(("left", "least"), [("int8", -127), ("int8", -128), ("uint8", -127)])
def test_gemm_on_emulated_arm(target: Target, left: str, least: int) -> None:
    """All ways of the left side; weights with and without -128, two products of which by -128 leave 16 bits."""
    for rows, depth, cols in ((29, 300, 33), (5, 37, 6), (2, 70, 9)):
        a = (bytes_of(rows, depth).astype(np.int64) - (128 if left == "int8" else 0)).astype(left)
        b = weights_of(depth, cols).clip(least)
        x, w = leaf(a, "a"), leaf(b, "b", constant=True)
        got = run("edgert.GemmInteger", {}, [x, w], (rows, cols), {x: a}, target, dtype="int32")
        np.testing.assert_array_equal(got, a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_gemm_rows_may_be_known_only_at_run_time(target: Target) -> None:
    a, b = bytes_of(1, 11, 20), weights_of(20, 40)
    n = tirx.Var("n", "int64")
    left, right = leaf(a, "a", (1, n, 20)), leaf(b, "b", constant=True)
    out = np.zeros((1, 11, 40), np.int64)
    got = run(
        "edgert.GemmInteger", {}, [left, right], (1, n, 40), {left: a}, target, dims={"n": 11}, dtype="int32"
    )  # fmt: skip
    np.testing.assert_array_equal(got.reshape(out.shape), a.astype(np.int64) @ b.astype(np.int64))


def convolved(x: np.ndarray, w: np.ndarray, zero: int, attrs: dict) -> np.ndarray:
    """The sums in int64 by numpy; x NHWC, w [O, C/group, kH, kW], the padding holds `zero`."""
    top, left, bottom, right = attrs["pads"]
    (sh, sw), (dh, dw), group = attrs["strides"], attrs["dilations"], attrs["group"]
    wide = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero).astype(np.int64)
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], (dh, dw), strict=True)]
    windows = sliding_window_view(wide, spans, axis=(1, 2))[:, ::sh, ::sw, :, ::dh, ::dw]
    n, oh, ow, c = windows.shape[:4]
    parts = windows.reshape(n, oh, ow, group, c // group, *windows.shape[4:])
    kernels = w.astype(np.int64).reshape(group, w.shape[0] // group, *w.shape[1:])
    return np.einsum("nhwgcij,gocij->nhwgo", parts, kernels).reshape(n, oh, ow, -1)


CONVOLUTIONS = {
    "3x3_of_3_channels_with_pads": ((1, 9, 11, 3), (8, 3, 3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 1),
    "3x3_wide": ((2, 6, 17, 16), (70, 16, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "1x1": ((1, 5, 7, 24), (33, 24, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "1x1_stride_2": ((1, 6, 7, 20), (5, 20, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    "dilated": ((1, 9, 9, 5), (6, 5, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    "grouped": ((1, 7, 6, 12), (8, 6, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "5x3": ((1, 8, 8, 4), (17, 4, 5, 3), (2, 1), (2, 1, 2, 1), (1, 1), 1),
}


@pytest.mark.parametrize("target", BYTE_ISAS + ARM_ISAS)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_of_bytes_is_exact(target: Target, case: str) -> None:
    shape, kernel, strides, pads, dilations, group = CONVOLUTIONS[case]
    x, w, zero = bytes_of(*shape), weights_of(*kernel), np.array(131, np.uint8)
    attrs = {"strides": list(strides), "pads": list(pads), "dilations": list(dilations), "group": group}
    want = convolved(x, w, int(zero), attrs)
    image, taps, border = leaf(x, "x"), leaf(w, "w", constant=True), leaf(zero, "zero")
    feeds = {image: x, border: zero}
    got = run("edgert.Conv2dInteger", attrs, [image, taps, border], want.shape, feeds, target, dtype="int32")
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_sums_are_requantized_as_onnxruntime_does(target: Target) -> None:
    """float32(sum + bias) * multiplier, rounded half to even, plus the zero point, clamped."""
    a, b = bytes_of(9, 36), weights_of(36, 50)
    bias, factor = RNG.integers(-5000, 5000, 50).astype(np.int32), np.float32(0.5) ** RNG.integers(6, 9, 50)
    left, right, offset = leaf(a, "a"), leaf(b, "b", constant=True), leaf(bias, "bias")
    by = leaf(factor.astype(np.float32), "factor")

    def tail(acc: Tensor) -> Tensor:
        def of(i: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
            return to_integer((acc(i, j) + offset(j)).astype("float32") * by(j), 117, 20, 255, "uint8")

        return compute(acc.shape, "uint8", of, [acc, offset, by])

    feeds = {left: a, offset: bias, by: factor.astype(np.float32)}
    got = run("edgert.GemmInteger", {}, [left, right], (9, 50), feeds, target, tail=tail, dtype="int32")
    total = (a.astype(np.int64) @ b + bias).astype(np.float32) * factor.astype(np.float32)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.clip(np.round(total) + 117, 20, 255))
