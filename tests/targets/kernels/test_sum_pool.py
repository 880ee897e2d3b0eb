"""Sums of bytes over windows: exact for every window, channel count, tail and instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.codegen.jit import run_stages
from targets.kernels.registry import Call, stages_for
from targets.kernels.requantize import requantize
from targets.kernels.tensor import Tensor

from .kernel_case import BYTE_ISAS, leaf
from .test_depthwise_integer import requantized

CASES = [  # shape, kernel, strides, dilations
    ((2, 7, 7, 160), (7, 7), (1, 1), (1, 1)),
    ((1, 5, 9, 37), (2, 3), (2, 1), (2, 2)),
    ((1, 40, 30, 3), (40, 30), (1, 1), (1, 1)),  # more pixels than 16 bits hold
    ((1, 2, 300, 18), (2, 300), (1, 1), (1, 1)),
    ((1, 4, 4, 1), (2, 2), (2, 2), (1, 1)),
]


def sums(x: np.ndarray, kernel, strides, dilations) -> np.ndarray:
    """The sums of every window, in int32."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int32), reach, (1, 2))
    return windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]].sum((-2, -1), dtype=np.int32)


def pool(target, x: np.ndarray, kernel, strides, dilations, tail, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """What the template gives with `tail` on the sums, and the sums."""
    want = sums(x, kernel, strides, dilations)
    image, acc, result = leaf(x, "x"), Tensor(want.shape, "int32", "acc"), Tensor(want.shape, dtype, "result")
    attrs = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    stages = stages_for(Call("edgert.SumPool2d", attrs, [image], [acc], tail(acc), [result]), target)
    assert stages is not None
    (got,) = run_stages(stages, {id(image): x}, [result], target)
    return got, want


@pytest.mark.parametrize("target", BYTE_ISAS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda c: "x".join(map(str, c[0])))
def test_sums_are_exact(target, dtype: str, extreme: bool, case: tuple) -> None:
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max + 1, case[0]).astype(dtype)
    if extreme:
        x[:] = info.min if dtype == "int8" else info.max
    got, want = pool(target, x, *case[1:], lambda acc: acc, "int32")
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", BYTE_ISAS)
def test_a_mean_is_requantized(target) -> None:
    x = np.random.default_rng(1).integers(0, 256, (1, 7, 7, 160)).astype(np.uint8)
    bias, scale = np.array([-49 * 12], np.int32), np.array([0.5 / 49], np.float32)
    b, m = leaf(bias, "b", constant=True), leaf(scale, "m", constant=True)
    got, total = pool(
        target, x, (7, 7), (1, 1), (1, 1), lambda acc: requantize(acc, b, m, 3, 0, 255, "uint8"), "uint8"
    )  # fmt: skip
    np.testing.assert_array_equal(got, requantized(total, bias, scale, 3, 0, 255))


def test_padded_windows_are_left_to_others(target=BYTE_ISAS[0].values[0]) -> None:
    image, acc = Tensor((1, 4, 4, 8), "uint8", "x"), Tensor((1, 4, 4, 8), "int32", "acc")
    attrs = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
    assert stages_for(Call("edgert.SumPool2d", attrs, [image], [acc], acc, [acc]), target) is None
    assert stages_for(Call("edgert.SumPool2d", {"kernel_shape": (3, 3)}, [image], [acc], acc, [acc]), target) is None
