"""The fused multiply-add of cores without an FPU, against exact arithmetic."""

from __future__ import annotations

import ctypes
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import targets
from edgert.native.build import zig_cc

Fma = ctypes._CFuncPtr


@pytest.fixture(scope="module")
def fma(tmp_path_factory: pytest.TempPathFactory) -> Fma:
    library = tmp_path_factory.mktemp("fma") / "fma.so"
    source = Path(targets.__file__).parent / "firmware" / "fmaf.c"
    zig_cc(["-shared", "-fPIC", "-O1", "-ffreestanding", "-Dfmaf=edgert_fmaf", "-o", str(library), str(source)])
    function = ctypes.CDLL(str(library)).edgert_fmaf
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    return function


def nearest(value: Fraction) -> np.float32:
    """A rational number rounded to float32, ties to even."""
    if not value:
        return np.float32(0)
    exponent = max(abs(value).numerator.bit_length() - value.denominator.bit_length() - 25, -149)
    while abs(value) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while exponent > -149 and abs(value) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    whole = round(value / Fraction(2) ** exponent)  # ties to even
    with np.errstate(over="ignore"):
        return np.float32(np.ldexp(float(whole), exponent))


number = st.floats(width=32, allow_nan=False, allow_infinity=False)
near = st.builds(lambda m, e: float(np.float32(np.ldexp(m, e))), st.integers(-(2**24), 2**24), st.integers(-30, 6))


@given(st.one_of(st.tuples(number, number, number), st.tuples(near, near, near)))
def test_it_is_rounded_once(fma: Fma, abc: tuple[float, float, float]) -> None:
    a, b, c = abc
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert np.float32(fma(a, b, c)) == nearest(exact)


@given(near, near)
def test_what_cancels_leaves_the_rounding_error_of_the_product(fma: Fma, a: float, b: float) -> None:
    product = float(np.float32(a) * np.float32(b))
    assert np.float32(fma(a, b, -product)) == nearest(Fraction(a) * Fraction(b) - Fraction(product))


@pytest.mark.parametrize("values", [(np.inf, 1, 1), (np.inf, 0, 1), (1, 2, -np.inf), (np.nan, 1, 1), (-0.0, 1, -0.0)])
def test_edges(fma: Fma, values: tuple[float, float, float]) -> None:
    a, b, c = (np.float64(v) for v in values)
    with np.errstate(invalid="ignore"):
        want = np.float32(a * b + c)
    got = np.float32(fma(*values))
    assert np.array_equal(got, want, equal_nan=True)
    assert np.signbit(got) == np.signbit(want) or np.isnan(got)
