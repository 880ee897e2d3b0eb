"""Depthwise convolution of bytes: exact for every kernel, stride, border, channel count, tail and instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from targets.kernels.conv2d_shape import ConvShape
from targets.kernels.depthwise_integer import depthwise_integer
from targets.kernels.registry import Call
from targets.kernels.requantize import requantize
from targets.kernels.tensor import Tensor, compute

from .kernel_case import ARM_ISAS, BYTE_ISAS, leaf, runner_for


def shape_of(shape, kernel, pads, strides=(1, 1), dilations=(1, 1)) -> ConvShape:
    """The sizes of a depthwise convolution over [N, H, W, C]."""
    n, h, w, c = shape
    oh = (h + pads[0] + pads[2] - (kernel[0] - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (w + pads[1] + pads[3] - (kernel[1] - 1) * dilations[1] - 1) // strides[1] + 1
    return ConvShape(n, h, w, c, oh, ow, c, kernel, strides, pads, dilations, c)


def exact(x: np.ndarray, w: np.ndarray, zero: int, s: ConvShape) -> np.ndarray:
    """The sums, in int32."""
    top, left, bottom, right = s.pads
    wide = np.pad(x.astype(np.int32), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero)
    total = np.zeros((s.batch, s.out_height, s.out_width, s.channels), np.int32)
    for i in range(s.kernel[0]):
        for j in range(s.kernel[1]):
            y, z = i * s.dilations[0], j * s.dilations[1]
            part = wide[:, y : y + (s.out_height - 1) * s.strides[0] + 1 : s.strides[0]]
            part = part[:, :, z : z + (s.out_width - 1) * s.strides[1] + 1 : s.strides[1]]
            total += part * w[:, 0, i, j].astype(np.int32)
    return total


def requantized(total, bias, multiplier, zero: int, low: int, high: int) -> np.ndarray:
    """What ONNX Runtime's QLinearConv makes of sums."""
    scaled = np.rint((total + bias).astype(np.float32) * multiplier)
    return np.clip(scaled + np.float32(zero), low, high).astype(np.int64)


CASES = [
    dict(shape=(1, 12, 11, 64), kernel=(3, 3), pads=(1, 1, 1, 1)),
    dict(shape=(2, 9, 8, 96), kernel=(3, 3), pads=(0, 0, 1, 1), strides=(2, 2)),
    dict(shape=(1, 7, 7, 144), kernel=(5, 5), pads=(2, 2, 2, 2)),
    dict(shape=(1, 13, 10, 40), kernel=(5, 5), pads=(1, 2, 2, 1), strides=(2, 2)),
    dict(shape=(1, 11, 9, 17), kernel=(3, 3), pads=(2, 1, 0, 3), strides=(1, 2), dilations=(2, 3)),
    dict(shape=(1, 1, 30, 32), kernel=(1, 9), pads=(0, 8, 0, 0)),
    dict(shape=(1, 2, 2, 65), kernel=(3, 3), pads=(1, 1, 1, 1)),
    dict(shape=(1, 8, 3, 5), kernel=(7, 7), pads=(3, 3, 3, 3)),
    dict(shape=(1, 30, 26, 16), kernel=(4, 2), pads=(0, 0, 0, 0), strides=(3, 1)),
]


def arrays(s: ConvShape, dtype: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Random bytes with the extremes among them, weights likewise, a zero point."""
    rng = np.random.default_rng(s.channels)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, (s.batch, s.height, s.width, s.channels)).astype(dtype)
    x[:, : s.height // 2] = info.max
    w = rng.integers(-128, 128, (s.channels, 1, *s.kernel)).astype(np.int8)
    w[::2] = 127
    return x, w, int(info.max) - 100


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: "x".join(map(str, c["shape"])))
def test_sums_are_exact(target, dtype: str, case: dict) -> None:
    s = shape_of(**case)
    x, w, zero = arrays(s, dtype)
    got = run_case(target, s, x, w, zero, lambda acc: acc, "int32")
    np.testing.assert_array_equal(got, exact(x, w, zero, s))


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: "x".join(map(str, c["shape"])))
@pytest.mark.parametrize(
    "to", [("uint8", 0, 0, 255), ("uint8", 131, 7, 250), ("int8", -3, -128, 127)], ids=["relu", "clamped", "int8"]
)
def test_requantized_sums_are_onnx_runtimes(target, case: dict, to: tuple) -> None:
    s = shape_of(**case)
    x, w, zero = arrays(s, "uint8")
    rng = np.random.default_rng(1)
    bias = rng.integers(-90000, 90000, s.channels).astype(np.int32)
    scale = (rng.random(s.channels) * 0.003 + 1e-5).astype(np.float32)
    scale[: s.channels // 2] = 1 / 512  # makes ties
    dtype, point, low, high = to
    got = run_case(
        target, s, x, w, zero,
        lambda acc: requantize(
            acc, leaf(bias, "bias", constant=True), leaf(scale, "m", constant=True), point, low, high, dtype
        ),
        dtype,
    )  # fmt: skip
    np.testing.assert_array_equal(got, requantized(exact(x, w, zero, s), bias, scale, point, low, high))


@pytest.mark.parametrize("target", ARM_ISAS)
@pytest.mark.parametrize(("dtype", "case"), [("uint8", 3), ("int8", 4), ("int8", 6)])
def test_on_emulated_arm(target, dtype: str, case: int) -> None:
    s = shape_of(**CASES[case])
    x, w, zero = arrays(s, dtype)
    assert_exact = np.testing.assert_array_equal
    assert_exact(run_case(target, s, x, w, zero, lambda acc: acc, "int32"), exact(x, w, zero, s))
    bias, scale = np.arange(s.channels, dtype=np.int32), np.full(s.channels, 1 / 512, np.float32)
    constants = [leaf(a, name, constant=True) for a, name in ((bias, "bias"), (scale, "scale"))]
    got = run_case(target, s, x, w, zero, lambda acc: requantize(acc, *constants, -3, -120, 127, "int8"), "int8")
    assert_exact(got, requantized(exact(x, w, zero, s), bias, scale, -3, -120, 127))


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("case", CASES[:3], ids=lambda c: "x".join(map(str, c["shape"])))
def test_another_tail_sees_the_sums_in_their_places(target, case: dict) -> None:
    s = shape_of(**case)
    x, w, zero = arrays(s, "uint8")
    other = np.random.default_rng(2).integers(0, 255, (s.batch, s.out_height, s.out_width, s.channels)).astype(np.uint8)
    added = leaf(other, "other")

    def tail(acc: Tensor) -> Tensor:
        def of(*i) -> tirx.Expr:
            return tirx.max(acc(*i), 0) * 2 + added(*i).astype("int32")

        return compute(acc.shape, "int32", of, [acc, added])

    got = run_case(target, s, x, w, zero, tail, "int32", {id(added): other})
    np.testing.assert_array_equal(got, np.maximum(exact(x, w, zero, s), 0) * 2 + other)


def run_case(target, s: ConvShape, x, w, zero: int, tail, dtype: str, feeds: dict | None = None) -> np.ndarray:
    """What the kernel gives for these arrays with `tail` on its sums."""
    shape = (s.batch, s.out_height, s.out_width, s.channels)
    acc, result = Tensor(shape, "int32", "acc"), Tensor(shape, dtype, "result")
    image, taps = leaf(x, "x"), leaf(w, "w", constant=True)
    point = leaf(np.array(zero, x.dtype), "zero", constant=True)
    call = Call("edgert.Conv2dInteger", {}, [image, taps, point], [acc], tail(acc), [result])
    stages = depthwise_integer(call, image, taps, point, s, target)
    assert stages is not None
    (got,) = runner_for(target)(stages, {id(image): x, **(feeds or {})}, [result], target)
    return got
