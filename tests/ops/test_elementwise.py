"""Element-wise operators against ONNX Runtime or numpy: edges of the types, broadcasting, opset forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .reference import answers, check, model_of

RNG = np.random.default_rng(5)
EDGES = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, -1e-30, 3e38, -3e38, np.inf, -np.inf, np.nan, 7.5], np.float32)


def run(folder: Path, op: str, *inputs: np.ndarray, opset: int = 17, **attrs: object) -> np.ndarray:
    model = model_of(op, inputs, 1, (), opset, **attrs)
    return answers(model, {f"i{k}": v for k, v in enumerate(inputs)}, folder)["o0"]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "GreaterOrEqual"])
def test_broadcast_and_special_values(op: str, tmp_path: Path) -> None:
    check(tmp_path, op, [EDGES[:, None], EDGES[None, :]])


@pytest.mark.parametrize(
    "op", ["Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Floor", "Ceil", "Round", "Sqrt", "IsNaN", "Sign"]
)
def test_unary_special_values(op: str, tmp_path: Path) -> None:
    check(tmp_path, op, [EDGES])


@pytest.mark.parametrize(
    ("op", "function", "low", "high"),
    [("Sinh", np.sinh, -5, 5), ("Asinh", np.arcsinh, -50, 50), ("Acosh", np.arccosh, 1, 1e6),
     ("Atanh", np.arctanh, -0.999, 0.999),
     ("Softplus", lambda x: np.logaddexp(0, x), -80, 80), ("Mish", lambda x: x * np.tanh(np.logaddexp(0, x)), -30, 30),
     ("Elu", lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), -30, 30)],
)  # fmt: skip
def test_accuracy_of_composed_functions(op: str, function, low: float, high: float, tmp_path: Path) -> None:
    x = np.linspace(low, high, 1003).astype(np.float32)
    got = run(tmp_path, op, x, opset=22)
    # a handful of float32 roundings of each result; 1e-38 for those that vanish
    np.testing.assert_allclose(got, function(x.astype(np.float64)), rtol=1e-6, atol=1e-38)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_wrap(dtype: type, tmp_path: Path) -> None:
    info = np.iinfo(dtype)
    a = np.array([info.min, info.max, 1, 0, info.max // 2], dtype)
    b = np.array([info.max, info.max, info.max, 3, 5], dtype)
    with np.errstate(over="ignore"):
        for op, function in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply)):
            np.testing.assert_array_equal(run(tmp_path, op, a, b), function(a, b))


def test_division_never_traps_and_truncates(tmp_path: Path) -> None:
    a = np.array([7, -7, 7, -7, -(2**31), 5, -5], np.int32)
    b = np.array([2, 2, -2, -2, -1, 0, 0], np.int32)
    got = run(tmp_path, "Div", a, b)
    # C's division; the lowest number over -1 wraps to itself, and x / 0 is 0 here (ONNX leaves it open)
    np.testing.assert_array_equal(got, [3, -3, -3, 3, -(2**31), 0, 0])
    sane = b != 0
    np.testing.assert_array_equal(run(tmp_path, "Mod", a, b)[sane], np.mod(a[sane].astype(np.int64), b[sane]))
    np.testing.assert_array_equal(run(tmp_path, "Mod", a, b, fmod=1)[sane], np.fmod(a[sane].astype(np.int64), b[sane]))


def test_pow_of_integers_wraps(tmp_path: Path) -> None:
    a = np.array([2, -3, 0, 1, -1, -1, 10, 2, 5], np.int32)
    b = np.array([10, 3, 0, 70, 71, 70, 9, -1, 0], np.int32)
    np.testing.assert_array_equal(run(tmp_path, "Pow", a, b), [1024, -27, 1, 1, -1, 1, 10**9, 0, 1])


@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_float_to_integer_saturates(target: type, tmp_path: Path) -> None:
    from onnx import helper

    info = np.iinfo(target)
    got = run(tmp_path, "Cast", EDGES, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    wanted = [0 if np.isnan(v) else min(max(int(v), info.min), info.max) if np.isfinite(v) else
              (info.max if v > 0 else info.min) for v in EDGES]  # fmt: skip
    np.testing.assert_array_equal(got, np.array(wanted, target))


def test_bfloat16_through_a_chain(tmp_path: Path) -> None:
    import ml_dtypes

    x = np.linspace(-4, 4, 37).astype(ml_dtypes.bfloat16)
    got = run(tmp_path, "Elu", x, opset=22).astype(np.float64)
    wide = x.astype(np.float64)
    # one rounding to 8 significant bits
    np.testing.assert_allclose(got, np.where(wide < 0, np.expm1(wide), wide), rtol=2**-8)


@pytest.mark.parametrize(("opset", "attrs"), [(10, {"min": -1.0, "max": 2.0}), (17, {})])
def test_clip_of_both_forms(opset: int, attrs: dict, tmp_path: Path) -> None:
    bounds = [] if attrs else [np.array(-1, np.float32), np.array(2, np.float32)]
    check(tmp_path, "Clip", [EDGES, *bounds], opset=opset, **attrs)


def test_shapes_without_elements_and_scalars(tmp_path: Path) -> None:
    check(tmp_path, "Add", [np.zeros((0, 3), np.float32), np.ones((1, 3), np.float32)])
    check(tmp_path, "Mul", [np.array(2, np.float32), np.array(3, np.float32)])
    check(tmp_path, "Where", [RNG.random((2, 1)) > 0.5, np.ones((1, 3), np.int64), np.zeros((), np.int64)])
