"""The fused multiply-add of cores without an FPU, against exact arithmetic."""

from __future__ import annotations

import ctypes
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mcu.firmware import Function, firmware_function


@pytest.fixture(scope="module")
def fma(tmp_path_factory: pytest.TempPathFactory) -> Function:
    function = firmware_function(tmp_path_factory.mktemp("fma"), "fmaf.c", "edgert_fmaf", "-Dfmaf=edgert_fmaf")
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
def test_it_is_rounded_once(fma: Function, abc: tuple[float, float, float]) -> None:
    a, b, c = abc
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert np.float32(fma(a, b, c)) == nearest(exact)


@given(near, near)
def test_what_cancels_leaves_the_rounding_error_of_the_product(fma: Function, a: float, b: float) -> None:
    product = float(np.float32(a) * np.float32(b))
    assert np.float32(fma(a, b, -product)) == nearest(Fraction(a) * Fraction(b) - Fraction(product))


@pytest.mark.parametrize("values", [(np.inf, 1, 1), (np.inf, 0, 1), (1, 2, -np.inf), (np.nan, 1, 1), (-0.0, 1, -0.0)])
def test_edges(fma: Function, values: tuple[float, float, float]) -> None:
    a, b, c = (np.float64(v) for v in values)
    with np.errstate(invalid="ignore"):
        want = np.float32(a * b + c)
    got = np.float32(fma(*values))
    assert np.array_equal(got, want, equal_nan=True)
    assert np.signbit(got) == np.signbit(want) or np.isnan(got)
