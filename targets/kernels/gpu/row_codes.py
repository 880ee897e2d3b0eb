"""Rows of floats as bytes with one scale a row: a group of work items shares each row."""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from ..registry import Call, template
from ..rounding import LEAST_SCALE, quotient, to_integer
from ..row_codes import MOST
from ..stage import Stage
from .grid import Grid
from .rows import Shared


@template("edgert.RowCodes", "gpu")
def row_codes(call: Call, target: Target) -> list[Stage] | None:
    """x float32 [..., K] -> codes int8 or uint8 [..., K] and scales float32 [..., 1]; attribute zero: 0 or 128."""
    x, zero = call.need(0), int(call.attrs["zero"])
    *outer, depth = x.shape
    if not isinstance(depth, int) or depth == 0 or x.dtype != "float32":
        return None
    codes, scales = call.results[:2]
    b = Grid(f"row_codes_f32_{codes.dtype}", target)  # type: ignore[arg-type]
    with b:
        source, out, factors = b.arg(x), b.arg(codes), b.arg(scales)
        shared = Shared(b, outer, depth, "float32")
        with shared.each() as row:
            size = shared.reduce("max", lambda k: tirx.abs(b.load(source, *row, k)))
            most, least = tirx.const(float(MOST), "float32"), tirx.const(LEAST_SCALE, "float32")
            scale = b.let(tirx.max(size / most, least), "scale")
            with b.when(tirx.EQ(shared.lane, tirx.const(0, str(shared.lane.ty.dtype)))):
                b.store(factors, (*row, 0), scale)
            over = b.let(tirx.const(1.0, "float32") / scale, "over")
            minus = b.let(tirx.const(0.0, "float32") - scale, "minus")
            with shared.elements() as k:
                value = quotient(b.let(b.load(source, *row, k), "x"), minus, over)
                b.store(out, (*row, k), to_integer(value, zero, zero - MOST - 1, zero + MOST, codes.dtype))
    return [b.stage()]
