"""ONNX Runtime's products of quantized matrices against ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

from .contrib import check_contrib, compare, contrib_model, session
from .reference import answers

# the sum of the integers is exact, the scale is one float32 product, so is its application: three roundings
SCALED = 4e-7
RARE = 0.002


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([11, *seed])


def whole(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng(*shape).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def real(*shape: int) -> np.ndarray:
    return rng(*shape).standard_normal(shape).astype(np.float32)


def scales(*shape: int) -> np.ndarray:
    return rng(5, *shape).uniform(0.005, 0.05, shape).astype(np.float32)


def f32(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("b", ["int8", "uint8"])
def test_matmul_integer_to_float(b: str, columns: bool, bias: bool, tmp_path: Path) -> None:
    n = (7,) if columns else ()
    inputs = [
        whole("uint8", 2, 5, 33), whole(b, 33, 7), f32(0.013), scales(*n), np.array(117, np.uint8), whole(b, *n),
        real(7) if bias else None,
    ]  # fmt: skip
    check_contrib(tmp_path, "MatMulIntegerToFloat", inputs, ["float32"], tolerance=SCALED)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("b", ["int8", "uint8"])
def test_dynamic_quantize_matmul(b: str, columns: bool, zero: bool, tmp_path: Path) -> None:
    n = (9,) if columns else ()
    inputs = [real(3, 4, 40), whole(b, 40, 9), scales(*n), whole(b, *n) if zero else None, real(9)]
    check_contrib(tmp_path, "DynamicQuantizeMatMul", inputs, ["float32"], tolerance=SCALED)


def qgemm(a: str, b: str, columns: bool, c: tuple | None, out: bool, attrs: dict) -> list[np.ndarray | None]:
    n = (6,) if columns else ()
    left, right = ((31, 4) if attrs.get("transA") else (4, 31)), ((6, 31) if attrs.get("transB") else (31, 6))
    inputs: list[np.ndarray | None] = [
        whole(a, *left), f32(0.02), np.array(13, a), whole(b, *right), scales(*n), whole(b, *n),
        None if c is None else rng(8).integers(-30000, 30000, c, dtype=np.int32),
    ]  # fmt: skip
    return [*inputs, f32(1.3), np.array(21, a)] if out else inputs


@pytest.mark.parametrize("out", [False, True], ids=["float", "bytes"])
@pytest.mark.parametrize("c", [None, (6,), (1, 6), (4, 1), (4, 6), ()], ids=str)
@pytest.mark.parametrize("columns", [False, True], ids=["one", "columns"])
def test_qgemm(columns: bool, c: tuple | None, out: bool, tmp_path: Path) -> None:
    inputs = qgemm("uint8", "int8", columns, c, out, {"transB": 1})
    check_contrib(tmp_path, "QGemm", inputs, ["uint8" if out else "float32"], tolerance=SCALED, ties=RARE, transB=1)


@pytest.mark.parametrize("types", [("uint8", "uint8"), ("int8", "int8")], ids=str)
@pytest.mark.parametrize("attrs", [{"transA": 1, "alpha": 1.7}, {"transA": 1, "transB": 1}], ids=str)
def test_qgemm_forms(attrs: dict, types: tuple[str, str], tmp_path: Path) -> None:
    inputs = qgemm(*types, True, (6,), True, attrs)
    check_contrib(tmp_path, "QGemm", inputs, [types[0]], tolerance=SCALED, ties=RARE, **attrs)


def nbits(k: int, n: int, size: int, bits: int, zeros: str | None, flat: bool) -> list[np.ndarray | None]:
    count = -(-k // size)
    b = whole("uint8", n, count, size * bits // 8)
    scale = scales(n, count)
    zero = None
    if zeros == "packed":
        zero = whole("uint8", n, -(-count * bits // 8))
    elif zeros == "float":
        zero = rng(9).uniform(0, 1 << bits, (n, count)).astype(np.float32)
    if flat:
        scale, zero = scale.reshape(-1), None if zero is None else zero.reshape(-1)
    return [real(2, 3, k), b, scale, zero]


@pytest.mark.parametrize("flat", [False, True], ids=["shaped", "flat"])
@pytest.mark.parametrize("zeros", [None, "packed", "float"])
@pytest.mark.parametrize("k, size", [(64, 32), (80, 16), (72, 32)], ids=str)
def test_matmul_4_bits(k: int, size: int, zeros: str | None, flat: bool, tmp_path: Path) -> None:
    inputs = nbits(k, 11, size, 4, zeros, flat)
    check_contrib(tmp_path, "MatMulNBits", inputs, ["float32"], K=k, N=11, block_size=size, bits=4, accuracy_level=1)


@pytest.mark.parametrize("zeros", [None, "packed"])
def test_matmul_8_bits_and_bias(zeros: str | None, tmp_path: Path) -> None:
    inputs = [*nbits(64, 5, 32, 8, zeros, True), None, real(5)]
    check_contrib(tmp_path, "MatMulNBits", inputs, ["float32"], K=64, N=5, block_size=32, bits=8, accuracy_level=1)


def test_matmul_2_bits(tmp_path: Path) -> None:
    """Against the definition: not every version of ONNX Runtime has a kernel for 2 bits."""
    a, b, scale, zero = nbits(64, 5, 16, 2, "packed", False)
    model = contrib_model("MatMulNBits", [a, b, scale, zero], ["float32"], K=64, N=5, block_size=16, bits=2)
    q = (b[..., None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(5, 4, 16).astype(np.float32)
    z = (zero[..., None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(5, 4, 1).astype(np.float32)
    w = ((q - z) * scale[..., None]).reshape(5, 64)
    compare(answers(model, {"i0": a}, tmp_path)["o0"], a @ w.T, 2e-5, 0)


def test_onnxruntime_takes_the_models() -> None:
    """What the tests above compare with is really run by ONNX Runtime."""
    a, b, scale, zero = nbits(64, 5, 32, 4, "packed", False)
    model = contrib_model("MatMulNBits", [a, b, scale, zero], ["float32"], K=64, N=5, block_size=32, bits=4)
    assert session(model).run(None, {"i0": a})[0].shape == (2, 3, 5)
