"""Quantization and integer products at the edges: ties, saturation, axes, blocks, groups, NaN."""

from pathlib import Path

import numpy as np
import pytest

from .reference import answers, check, model_of

RNG = np.random.default_rng(3)


def whole(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_quantize_rounds_half_to_even_and_saturates(dtype: str, tmp_path: Path) -> None:
    x = np.array([-3e38, -1e6, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.49, 1e6, 3e38, np.inf, -np.inf], np.float32)
    zero = np.array(7, dtype)
    model = model_of("QuantizeLinear", [x, np.float32(1), zero], 1, [], 21)
    got = answers(model, {"i0": x, "i1": np.float32(1), "i2": zero}, tmp_path)["o0"]
    info = np.iinfo(dtype)
    wanted = np.clip(np.rint(x.astype(np.float64)) + 7, info.min, info.max).astype(dtype)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("size", [1, 37])
def test_quantize_nan_gives_the_least_number(size: int, tmp_path: Path) -> None:
    x = np.full(size, np.nan, np.float32)
    scale, zero = np.array(0.5, np.float32), np.array(-3, np.int8)
    model = model_of("QuantizeLinear", [x, scale, zero], 1, [1, 2], 21)
    np.testing.assert_array_equal(answers(model, {"i0": x}, tmp_path)["o0"], np.full(size, -128, np.int8))


@pytest.mark.parametrize("axis", [0, 2, -2])
def test_quantize_by_axis(axis: int, tmp_path: Path) -> None:
    x = reals(3, 4, 5) * 40
    size = x.shape[axis]
    inputs = [x, np.abs(reals(size)) + 0.1, whole("int8", size)]
    check(tmp_path, "QuantizeLinear", inputs, axis=axis, opset=19)


@pytest.mark.parametrize("dtype", ["int8", "uint16"])
def test_dequantize_in_blocks(dtype: str, tmp_path: Path) -> None:
    inputs = [whole(dtype, 3, 12), np.abs(reals(3, 3)) + 0.1, whole(dtype, 3, 3)]
    check(tmp_path, "DequantizeLinear", inputs, axis=1, block_size=4, opset=21)


def test_dequantize_last_block_short(tmp_path: Path) -> None:
    x, scale = whole("int8", 7, 2), np.abs(reals(3, 2)) + 0.1
    model = model_of("DequantizeLinear", [x, scale], 1, [], 21, axis=0, block_size=3)
    got = answers(model, {"i0": x, "i1": scale}, tmp_path)["o0"]
    # one product of an 8-bit number: the same rounding
    np.testing.assert_array_equal(got, x.astype(np.float32) * np.repeat(scale, 3, axis=0)[:7])


def test_dequantize_int32_beyond_float32(tmp_path: Path) -> None:
    check(tmp_path, "DequantizeLinear", [whole("int32", 40), np.array(0.37, np.float32)], opset=13)


@pytest.mark.parametrize(
    "x", [reals(5, 7) * 3, np.abs(reals(9)) + 1, -np.abs(reals(9)) - 1], ids=["both", "up", "down"]
)
def test_dynamic_quantize(x: np.ndarray, tmp_path: Path) -> None:
    check(tmp_path, "DynamicQuantizeLinear", [x], outputs=3, opset=11)


def test_dynamic_quantize_of_zeros(tmp_path: Path) -> None:
    check(tmp_path, "DynamicQuantizeLinear", [np.zeros((2, 3), np.float32)], outputs=3, opset=11)


@pytest.mark.parametrize("signs", [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])
def test_matmul_integer(signs: tuple[str, str], tmp_path: Path) -> None:
    a, b = whole(signs[0], 2, 5, 33), whole(signs[1], 33, 7)
    check(tmp_path, "MatMulInteger", [a, b, whole(signs[0]), whole(signs[1], 7)], opset=10)


def test_matmul_integer_zero_points_by_row(tmp_path: Path) -> None:
    a, b, rows = whole("uint8", 4, 4), whole("int8", 4, 3), whole("uint8", 4)
    model = model_of("MatMulInteger", [a, b, rows], 1, [], 10)
    got = answers(model, {"i0": a, "i1": b, "i2": rows}, tmp_path)["o0"]
    np.testing.assert_array_equal(got, (a.astype(np.int32) - rows.astype(np.int32)[:, None]) @ b.astype(np.int32))


@pytest.mark.parametrize("columns", [False, True])
def test_qlinear_matmul(columns: bool, tmp_path: Path) -> None:
    n = [6] if columns else []
    a, b = whole("uint8", 3, 5, 40), whole("int8", 40, 6)
    b_scale = (np.abs(reals(*n)) + 0.01).astype(np.float32)
    inputs = [a, np.float32(0.02), np.uint8(120), b, b_scale, np.zeros(n, np.int8), np.float32(1.7), np.uint8(90)]
    check(tmp_path, "QLinearMatMul", [np.asarray(v) for v in inputs], constant=range(3, 8), opset=10)


CONVS = {
    "padded": ((1, 3, 7, 6), (4, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    "grouped": ((2, 4, 6, 6), (6, 2, 3, 3), {"group": 2, "dilations": [2, 1]}),
    "depthwise": ((1, 5, 8, 7), (5, 1, 3, 3), {"group": 5, "auto_pad": "SAME_UPPER"}),
}


@pytest.mark.parametrize("name", CONVS)
def test_conv_integer(name: str, tmp_path: Path) -> None:
    x, w, attrs = CONVS[name]
    check(tmp_path, "ConvInteger", [whole("uint8", *x), whole("uint8", *w), np.array(37, np.uint8)], opset=10, **attrs)


@pytest.mark.parametrize("name", CONVS)
def test_qlinear_conv(name: str, tmp_path: Path) -> None:
    x, w, attrs = CONVS[name]
    o = w[0]
    inputs = [
        whole("uint8", *x), np.array(0.03, np.float32), np.array(101, np.uint8), whole("int8", *w),
        np.abs(reals(o)) + 0.01, np.zeros(o, np.int8), np.array(2.3, np.float32), np.array(88, np.uint8),
        RNG.integers(-9000, 9000, o, dtype=np.int32),
    ]  # fmt: skip
    check(tmp_path, "QLinearConv", inputs, constant=range(3, 9), opset=10, **attrs)
