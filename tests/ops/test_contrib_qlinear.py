"""ONNX Runtime's QLinear operators against ONNX Runtime: the same but for ties of one step."""

from pathlib import Path

import numpy as np
import pytest

from .contrib import check_contrib

# A tie is where two ways to round the same real number to float32 fall on both sides of a half: with 24 bits for values
# below 2^8, some 2^-15 of random values lie that near to one. The scales are in no simple proportion, which would make
# exact halves frequent.
RARE = 0.002
PAIRS = ["uint8", "int8"]


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([7, *seed])


def whole(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng(*shape).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def f32(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def zero(dtype: str, steps: int) -> np.ndarray:
    """`steps` above the middle of the type."""
    return np.array(steps + (128 if dtype == "uint8" else 0), dtype)


@pytest.mark.parametrize("dtype", PAIRS)
@pytest.mark.parametrize("op, scale", [("QLinearAdd", 0.037), ("QLinearMul", 0.06)])
def test_binary(op: str, scale: float, dtype: str, tmp_path: Path) -> None:
    inputs = [
        whole(dtype, 2, 3, 40, 7), f32(0.021), zero(dtype, 3), whole(dtype, 3, 40, 1), f32(0.033), zero(dtype, -9),
        f32(scale), zero(dtype, 11),
    ]  # fmt: skip
    check_contrib(tmp_path, op, inputs, [dtype], given=(0, 3), ties=RARE)


def test_add_a_constant_without_the_output_zero_point(tmp_path: Path) -> None:
    inputs = [
        whole("uint8", 4, 50), f32(0.0203719), zero("uint8", 1), whole("uint8", 50), f32(0.0307031), zero("uint8", -2),
        f32(0.0612931),
    ]  # fmt: skip
    check_contrib(tmp_path, "QLinearAdd", inputs, ["uint8"], ties=RARE)


@pytest.mark.parametrize("dtype", PAIRS)
@pytest.mark.parametrize("op, attrs", [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.17})])
def test_unary(op: str, attrs: dict, dtype: str, tmp_path: Path) -> None:
    every = np.arange(256).astype(np.uint8).view(dtype).reshape(4, 64)
    inputs = [every, f32(0.047), zero(dtype, 5), f32(0.031), zero(dtype, -20)]
    check_contrib(tmp_path, op, inputs, [dtype], ties=RARE, **attrs)


@pytest.mark.parametrize("dtype", PAIRS)
@pytest.mark.parametrize("scale", [1 / 256, 0.00517])
@pytest.mark.parametrize("opset, axis", [(13, -1), (13, 1), (12, 1), (11, 2)])
def test_softmax(opset: int, axis: int, scale: float, dtype: str, tmp_path: Path) -> None:
    low = np.array(np.iinfo(dtype).min, dtype)
    inputs = [whole(dtype, 3, 12, 10), f32(0.029), zero(dtype, 2), f32(scale), low]
    # ONNX Runtime's table of powers is exact to 24 bits too
    check_contrib(tmp_path, "QLinearSoftmax", inputs, [dtype], ties=RARE * 2, opset=opset, axis=axis)


@pytest.mark.parametrize("dtype", PAIRS)
@pytest.mark.parametrize("last", [0, 1])
def test_global_average_pool(last: int, dtype: str, tmp_path: Path) -> None:
    inputs = [whole(dtype, 2, 9, 7, 37), f32(0.021), zero(dtype, 4), f32(0.0047), zero(dtype, -3)]
    check_contrib(tmp_path, "QLinearGlobalAveragePool", inputs, [dtype], ties=RARE, channels_last=last)


POOLS = {
    "plain": {"kernel_shape": [2, 3], "strides": [2, 1]},
    "padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "padding counted": {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    "same": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
}


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("dtype", PAIRS)
@pytest.mark.parametrize("name", POOLS)
def test_average_pool(name: str, dtype: str, last: int, tmp_path: Path) -> None:
    shape = (2, 11, 10, 5) if last else (2, 5, 11, 10)
    inputs = [whole(dtype, *shape), f32(0.0213871), zero(dtype, 4), f32(0.0107093), zero(dtype, -3)]
    check_contrib(tmp_path, "QLinearAveragePool", inputs, [dtype], ties=RARE, channels_last=last, **POOLS[name])


@pytest.mark.parametrize("dtype", PAIRS)
def test_concat(dtype: str, tmp_path: Path) -> None:
    inputs = [
        f32(0.031), zero(dtype, 7), whole(dtype, 2, 3, 20), f32(0.021), zero(dtype, 4), whole(dtype, 2, 5, 20),
        f32(0.031), zero(dtype, 7), whole(dtype, 2, 1, 20), f32(0.09), zero(dtype, -30),
    ]  # fmt: skip
    check_contrib(tmp_path, "QLinearConcat", inputs, [dtype], given=(2, 5, 8), ties=RARE, axis=1)


@pytest.mark.parametrize("dtype", PAIRS)
def test_quantize_and_dequantize_by_axis(dtype: str, tmp_path: Path) -> None:
    scales = rng(1).uniform(0.01, 0.1, 6).astype(np.float32)
    zeros = whole(dtype, 6)
    x = rng(2).standard_normal((3, 6, 20)).astype(np.float32) * 4
    # one division, rounded once: exact
    check_contrib(tmp_path, "QuantizeLinear", [x, scales, zeros], [dtype], ties=0, axis=1)
    check_contrib(tmp_path, "DequantizeLinear", [whole(dtype, 3, 6, 20), scales, zeros], ["float32"],
                  tolerance=0, axis=1)  # fmt: skip


def test_conv(tmp_path: Path) -> None:
    inputs = [
        whole("uint8", 1, 3, 9, 8), f32(0.02), zero("uint8", 9), whole("int8", 4, 3, 3, 3),
        rng(3).uniform(0.001, 0.01, 4).astype(np.float32), np.zeros(4, np.int8), f32(0.3), zero("uint8", -5),
        rng(4).integers(-5000, 5000, 4, dtype=np.int32),
    ]  # fmt: skip
    check_contrib(tmp_path, "QLinearConv", inputs, ["uint8"], ties=0, pads=[1, 1, 1, 1])
