"""Pairs of bfloat16 in 32-bit lanes, as AMX's tiles hold them, made of vectors of float32."""

from __future__ import annotations

from tvm import tirx

from .nibbles import splat

LANES = 16


def rounded(value: tirx.Expr) -> tirx.Expr:
    """Bits of float32, the upper 16 of which are those of the nearest bfloat16 (halves away from zero)."""
    return tirx.reinterpret(f"uint32x{LANES}", value) + splat(0x8000, "uint32", LANES)


def pairs(low: tirx.Expr, high: tirx.Expr) -> tirx.Expr:
    """uint32 vector: of each lane, `low` rounded to bfloat16 in the lower half and `high` in the upper."""
    below = tirx.shift_right(rounded(low), splat(16, "uint32", LANES))
    return below | (rounded(high) & splat(0xFFFF0000, "uint32", LANES))
