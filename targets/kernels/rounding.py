"""Floats to small integers: rounded to nearest even and clamped, in instructions every vector unit has."""

from __future__ import annotations

from tvm import tirx

MAGIC = 12582912.0  # 1.5 * 2^23: added to a float32 below 2^22, its last bits are that number rounded to nearest even
MAGIC_BITS = 0x4B400000


def to_integer(value: tirx.Expr, zero: int, low: int, high: int, dtype: str) -> tirx.Expr:
    """clamp(round_half_to_even(value) + zero, low, high) of a float32, as `dtype` of at most 16 bits. NaN gives `low`.

    Clamped before it is rounded, so that every value converts. The zero point is added to the rounded number: added
    before, an odd one would turn ties the other way.
    """
    least, most = (tirx.const(float(v - zero), "float32") for v in (low, high))
    held = tirx.min(tirx.max(value, least), most)  # of a NaN and a number, TVM's max gives the second
    bits = tirx.reinterpret("int32", held + tirx.const(MAGIC, "float32"))
    return (bits - tirx.const(MAGIC_BITS - zero, "int32")).astype(dtype)
