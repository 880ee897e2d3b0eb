"""Vector math against numpy in float64: errors in units in the last place over all of float32, and IEEE's edges."""

import math

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from targets import all_targets, get_target, host_features
from targets.kernels import vmath
from targets.kernels.builder import Builder
from targets.kernels.nest import lower_nest
from targets.kernels.tensor import Tensor, as_expr, compute

ISAS = [t for t in all_targets().values() if t.name.startswith("x86-64")]
FUNCTIONS = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x))),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
}
# near 1 float32 log loses nothing (log1p form); sigmoid and erf add a division or a subtraction to exp's error
ULP = {"exp": 1.5, "log": 1.5, "tanh": 3.0, "sigmoid": 3.0, "erf": 2.0}


def every_float(step: int) -> np.ndarray:
    """float32 values at every `step`-th bit pattern: all signs, exponents, denormals, infinities and NaNs."""
    bits = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 1e-45, 88.72284, -103.97, 3.95, 0.9375], np.float32)
    values = np.concatenate([bits.view(np.float32), edges, np.linspace(-20, 20, 40000, dtype=np.float32)])
    return values[: values.size // 16 * 16]


def run(name: str, x: np.ndarray, target) -> np.ndarray:
    X, Y = Tensor(x.shape, str(x.dtype), "x"), Tensor(x.shape, str(x.dtype), "y")
    b = Builder(name)
    with b:
        source, out = b.arg(X), b.arg(Y)
        with b.parallel(x.size // 16) as i, b.vector(16) as v:
            b.store(out, i * 16 + v, getattr(vmath, name)(source[i * 16 + v]))
    return run_stages([b.stage()], {id(X): x}, [Y], target)[0]


def ulp(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in float32's spacing at want."""
    below = np.abs(want).clip(0, 2.0**127).astype(np.float32)
    spacing = np.spacing(below).astype(np.float64)
    return np.abs(got.astype(np.float64) - want) / spacing


@pytest.mark.parametrize("target", ISAS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_all_of_float32(name, target):
    if not host_features() >= set(target.features):
        pytest.skip(f"this machine lacks {target.name}")
    x = every_float(65521)
    got = run(name, x, target)
    with np.errstate(all="ignore"):
        want = FUNCTIONS[name](x.astype(np.float64))
        rounded = want.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    np.testing.assert_array_equal(got[np.isinf(rounded)], rounded[np.isinf(rounded)])
    worst = ulp(got[finite], want[finite])
    assert worst.max() <= ULP[name], (worst.max(), x[finite][worst.argmax()])
    if name in ("tanh", "erf"):
        np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(x[finite]))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types(dtype):
    x = np.linspace(-6, 6, 64).astype(dtype)
    for name in ("exp", "tanh", "sigmoid", "erf"):
        want = FUNCTIONS[name](x.astype(np.float64))
        # float16: one rounding of a float32 result; float64: libm's own error
        np.testing.assert_allclose(
            run(name, x, get_target()), want, rtol=1e-3 if dtype == "float16" else 1e-13, atol=1e-7
        )


def test_exp_flush_gives_zero_for_the_masked():
    x = np.array([0, -1, -10, -87, -88, -104, -1e30, -np.inf] * 2, np.float32)
    got = run("exp_flush", x, get_target())
    np.testing.assert_allclose(got, np.exp(x.astype(np.float64)), rtol=2.5e-7, atol=1.2e-38)
    assert got[7] == 0 and np.isnan(run("exp_flush", np.full(16, np.nan, np.float32), get_target())).all()


def test_used_twice_costs_once():
    value = vmath.erf(tirx.Var("x", "float32"))
    assert str(value).count("12582912") <= 4


def test_nested_functions_compile_and_agree():
    """TVM analyses bound names by substitution: nesting by Let would take minutes."""
    X, Y = Tensor((3, 37), "float32", "x"), Tensor((3, 37), "float32", "y")
    mish = compute((3, 37), "float32", lambda *i: X(*i) * vmath.tanh(vmath.log(vmath.exp(X(*i)) + as_expr(1.0))), [X])
    twice = compute((3, 37), "float32", lambda *i: vmath.sigmoid(vmath.sigmoid(mish(*i))), [mish])
    guarded = compute((3, 40), "float32", lambda i, j: tirx.if_then_else(j < 37, twice(i, j), as_expr(0.0)), [twice])
    x = np.linspace(-9, 9, 111, dtype=np.float32).reshape(3, 37)
    wide = x.astype(np.float64)
    want = 1 / (1 + np.exp(-1 / (1 + np.exp(-wide * np.tanh(np.log(1 + np.exp(wide)))))))
    (got,) = run_stages(lower_nest([(twice, Y)], get_target()), {id(X): x}, [Y], get_target())
    np.testing.assert_allclose(got, want, rtol=1e-6)
    Z = Tensor((3, 40), "float32", "z")
    (got,) = run_stages(lower_nest([(guarded, Z)], get_target()), {id(X): x}, [Z], get_target())
    np.testing.assert_allclose(got, np.pad(want, ((0, 0), (0, 3))), rtol=1e-6)


@pytest.mark.parametrize("target", ISAS, ids=lambda t: t.name)
def test_gelu_for_bytes(target):
    """5e-7 everywhere (the formula with erf has 4.4e-7), large numbers as they are; infinities and NaN as well."""
    if not host_features() >= set(target.features):
        pytest.skip(f"this machine lacks {target.name}")
    x = every_float(65521)
    got = run("gelu_for_bytes", x, target).astype(np.float64)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        want = np.where(np.isneginf(wide), 0, wide * 0.5 * np.vectorize(math.erfc)(-wide / math.sqrt(2)))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    assert (np.abs(got[finite] - want[finite]) <= 5e-7 + np.abs(want[finite]) * 2.0**-24).all()
