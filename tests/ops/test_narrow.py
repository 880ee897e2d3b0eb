"""Casts and quantization of the types below a byte and of 8-bit floats: every pattern of bits, every rounding."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from compiler.ops import narrow

from .reference import answers, model_of

NUMBERS = {name: number for number, name in narrow.TYPES.items()}


def all_of(name: str) -> np.ndarray:
    """Every value of a type, NaN and infinities included."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    bits = narrow.INTEGERS.get(name) or (4 if name.startswith("float4") else 8)
    return np.arange(1 << bits).astype(np.uint8).view(dtype)


def edges(name: str) -> np.ndarray:
    """float32 numbers on, between and just beside the type's own, and far outside of them."""
    own = all_of(name).astype(np.float32)
    own = np.sort(own[np.isfinite(own)])
    middle = (own[1:] + own[:-1]) / 2
    beside = [np.nextafter(middle, np.float32(v)) for v in (np.inf, -np.inf)]
    far = np.array([1e30, -1e30, 1e-40, -1e-40, -0.0, np.inf, -np.inf, np.nan], np.float32)
    return np.concatenate([own, middle, *beside, far])


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal bits, but for the sign of a NaN."""
    assert got.dtype == wanted.dtype
    known = ~np.isnan(wanted.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), ~known)
    np.testing.assert_array_equal(got.view(np.uint8)[known], wanted.view(np.uint8)[known])


def cast(folder: Path, x: np.ndarray, to: int, **attrs: int) -> np.ndarray:
    return answers(model_of("Cast", [x], 1, [], 25, to=to, **attrs), {"i0": x}, folder)["o0"]


@pytest.mark.parametrize("name", narrow.NAMES)
def test_every_value_is_read_right(name: str, tmp_path: Path) -> None:
    x = all_of(name)
    np.testing.assert_array_equal(cast(tmp_path, x, TensorProto.FLOAT), x.astype(np.float32))


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("name", [n for n in narrow.FLOATS if n.startswith("float8")])
def test_float8_rounds_half_to_even(name: str, saturate: int, tmp_path: Path) -> None:
    x, dtype = edges(name), np.dtype(getattr(ml_dtypes, name))
    with np.errstate(all="ignore"):
        wanted = onnx.numpy_helper.saturate_cast(x, dtype) if saturate else x.astype(dtype)
    same(cast(tmp_path, x, NUMBERS[name], saturate=saturate), wanted)


def test_float4_rounds_half_to_even(tmp_path: Path) -> None:
    x = edges("float4_e2m1fn")
    same(cast(tmp_path, x, NUMBERS["float4_e2m1fn"]), x.astype(ml_dtypes.float4_e2m1fn))


def test_scale_rounds_up(tmp_path: Path) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(99)).astype(np.float32) * 2.0 ** np.arange(-49, 50)
    x = x.astype(np.float32)
    same(cast(tmp_path, x, NUMBERS[narrow.SCALE]), onnx.numpy_helper.to_float8e8m0(x))


@pytest.mark.parametrize("name", narrow.INTEGERS)
def test_integers_wrap(name: str, tmp_path: Path) -> None:
    x = np.arange(-40, 40, dtype=np.int32)
    same(cast(tmp_path, x, NUMBERS[name]), x.astype(getattr(ml_dtypes, name)))


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_quantize_and_back(name: str, tmp_path: Path) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    low, high = int(ml_dtypes.iinfo(dtype).min), int(ml_dtypes.iinfo(dtype).max)
    x, scale, zero = np.linspace(-9, 9, 37, dtype=np.float32), np.array(0.5, np.float32), np.array(1, dtype)
    made = answers(model_of("QuantizeLinear", [x, scale, zero], 1, [1], 25), {"i0": x, "i2": zero}, tmp_path)["o0"]
    same(made, np.clip(np.rint(x / scale) + 1, low, high).astype(dtype))
    back = answers(model_of("DequantizeLinear", [made, scale, zero], 1, [1, 2], 25), {"i0": made}, tmp_path)["o0"]
    np.testing.assert_array_equal(back, (made.astype(np.float32) - 1) * scale)


@pytest.mark.parametrize("name", narrow.FLOATS)
def test_quantize_to_floats(name: str, tmp_path: Path) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    x, scale = np.linspace(-9, 9, 37, dtype=np.float32), np.array(0.3, np.float32)
    model = model_of("QuantizeLinear", [x, scale], 1, [1], 25, output_dtype=NUMBERS[name])
    same(answers(model, {"i0": x}, tmp_path)["o0"], (x / scale).astype(dtype))


def test_moved_without_change(tmp_path: Path) -> None:
    """Operators that only move elements take these types too."""
    x = all_of("float8_e5m2").reshape(4, 8, 8)
    model = model_of("Transpose", [x], 1, [], 25, perm=[2, 0, 1])
    got = answers(model, {"i0": x}, tmp_path)["o0"]
    np.testing.assert_array_equal(got.view(np.uint8), x.view(np.uint8).transpose(2, 0, 1))
