"""Fixed-point numbers of recurrent cells: multipliers for integer sums, and sigmoid and tanh by one table.

Everything is an integer, so that every target gives the same bits. Formats: gates before their function are int32 with
16 bits behind the point (Q16), tanh is int16 Q15, sigmoid uint16 Q16, as TensorFlow Lite's 16x8 kernels have them but
for the wider gates (Q3.12 there).
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from .builder import Builder
from .stage import Const

GATE_BITS, UNIT_BITS = 16, 15  # behind the point: of gates before their function, of hidden states and tanh
CELL_BITS = 20  # of cell states, which may leave [-1, 1]
_REACH, _STEP_BITS = 8, 10  # tanh(8) is 1 to 23 bits; entries are 2^10 of Q16 = 1/64 apart
I32, I64 = "int32", "int64"


def whole(value: int, dtype: str = I32) -> tirx.Expr:
    """A constant."""
    return tirx.const(value, dtype)


def _tanh_table() -> np.ndarray:
    points = np.arange(_REACH * 64 + 1) / 64
    return np.minimum(np.rint(np.tanh(points) * (1 << UNIT_BITS)), (1 << UNIT_BITS) - 1).astype(np.int16)


TANH = Const((_REACH * 64 + 1,), "int16", _tanh_table, "tanh:q15:64", "tanh_table")


def tanh(b: Builder, gate: tirx.Expr) -> tirx.Expr:
    """tanh of a Q16 number as Q15 (int32): a table with 64 entries a unit, straight lines between.

    The line is off by at most (1/64)^2 / 8 * max |tanh''| = 2.4e-5, four fifths of the last place.
    """
    table = b.arg(TANH)
    gate = b.keep(gate)
    sign = b.keep(tirx.shift_right(gate, whole(31)))  # 0 or -1; (v ^ sign) - sign is v or -v
    size = b.keep(tirx.min((gate ^ sign) - sign, whole((_REACH << GATE_BITS) - 1)))
    at = b.keep(tirx.shift_right(size, whole(_STEP_BITS)))
    low, high = b.keep(table[at].astype(I32)), table[at + 1].astype(I32)
    part = size & whole((1 << _STEP_BITS) - 1)
    value = b.keep(low + rounded_shift((high - low) * part, _STEP_BITS))
    return b.keep((value ^ sign) - sign)


def sigmoid(b: Builder, gate: tirx.Expr) -> tirx.Expr:
    """Sigmoid of a Q16 number as Q16 (int32, within 1 and 65535): (1 + tanh(x / 2)) / 2."""
    return b.keep(tanh(b, tirx.shift_right(gate, whole(1))) + whole(1 << UNIT_BITS))


def rounded_shift(value: tirx.Expr, bits: int) -> tirx.Expr:
    """value / 2^bits to the nearest integer, ties up."""
    dtype = str(value.ty.dtype)
    return tirx.shift_right(value + whole(1 << (bits - 1), dtype), whole(bits, dtype))


def times(a: tirx.Expr, b: tirx.Expr, bits: int) -> tirx.Expr:
    """a b / 2^bits to the nearest int32; the product in 64 bits."""
    return rounded_shift(a.astype(I64) * b.astype(I64), bits).astype(I32)


def multipliers(scale: np.ndarray, bound: int) -> tuple[np.ndarray, int] | None:
    """int32 m and one shift with sum * scale = sum * m / 2^shift in Q16, for sums of at most `bound` on either side.

    scale: float, above 0. None where a gate would not fit into Q16 of int32 by half. m has 30 bits, fewer where the
    product with a sum would not fit into 63.
    """
    exact = np.asarray(scale, np.float64) * 2.0**GATE_BITS
    most = float(exact.max(initial=2.0**-60))
    if not most * bound < 2.0**30:
        return None
    shift = min(30, 62 - int(bound).bit_length()) - int(np.frexp(most)[1])
    if shift < 1:
        return None
    shift = min(shift, 62)
    return np.rint(exact * 2.0**shift).astype(np.int32), shift


def from_float(value: tirx.Expr, bits: int, limit: int) -> tirx.Expr:
    """A float32 as an integer with `bits` behind the point, between -limit and limit (below 2^31 - 64); NaN: -limit."""
    held = tirx.min(
        tirx.max(value, tirx.const(-limit / 2.0**bits, "float32")), tirx.const(limit / 2.0**bits, "float32")
    )
    return tirx.nearbyint(held * tirx.const(2.0**bits, "float32")).astype(I32)


def to_float(value: tirx.Expr, bits: int) -> tirx.Expr:
    """An integer with `bits` behind the point as float32, rounded once."""
    return value.astype("float32") * tirx.const(2.0**-bits, "float32")
