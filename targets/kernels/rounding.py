"""Floats to small integers: rounded to nearest even and clamped, in instructions every vector unit has."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from .vmath import fma, let

MAGIC = 12582912.0  # 1.5 * 2^23: added to a float32 below 2^22, its last bits are that number rounded to nearest even
MAGIC_BITS = 0x4B400000
LEAST_SCALE = 1e-30  # of a row or block of zeros, whose scale is found as the model runs


def quantized(value: tirx.Expr, scale: float, zero: int, low: int, high: int, dtype: str) -> tirx.Expr:
    """clamp(round_half_to_even(value / scale) + zero, low, high) of a float32, for a scale known at compile time.

    Divides by multiplying: with r = RN(1/scale) and q = RN(value r), q + r (value - q scale) in fused steps is the
    quotient as division rounds it (Markstein 1990; a quarter of a vector division's time). Clamped before, so that
    infinities come out as the ends; NaN gives `low`.
    """
    single = np.float32(scale)
    minus, over = (tirx.const(float(v), "float32") for v in (-single, np.float32(1) / single))
    least, most = (tirx.const(float(np.float32(v - zero) * single), "float32") for v in (low, high))
    held = tirx.min(tirx.max(value, least), most)

    return rounded(let(held, lambda x: quotient(x, minus, over)), zero).astype(dtype)


def quotient(x: tirx.Expr, minus: tirx.Expr, over: tirx.Expr) -> tirx.Expr:
    """x / y as a division rounds it, of float32, where minus is -y and over is 1 / y rounded; x is read twice."""
    return let(x * over, lambda first: fma(fma(first, minus, x), over, first))


def divides_by_multiplying(scale: float) -> bool:
    """Whether `quantized` takes this scale: normal, and so is its reciprocal."""
    return 2.0**-100 < scale < 2.0**100


def rounded(held: tirx.Expr, zero: int) -> tirx.Expr:
    """round_half_to_even(held) + zero as int32, of a float32 below 2^22."""
    bits = tirx.reinterpret("int32", held + tirx.const(MAGIC, "float32"))
    return bits - tirx.const(MAGIC_BITS - zero, "int32")


def to_integer(value: tirx.Expr, zero: int, low: int, high: int, dtype: str) -> tirx.Expr:
    """clamp(round_half_to_even(value) + zero, low, high) of a float32, as `dtype` of at most 16 bits. NaN gives `low`.

    Clamped before it is rounded, so that every value converts. The zero point is added to the rounded number: added
    before, an odd one would turn ties the other way.
    """
    least, most = (tirx.const(float(v - zero), "float32") for v in (low, high))
    # of a NaN and a number, TVM's max gives the second
    return rounded(tirx.min(tirx.max(value, least), most), zero).astype(dtype)
