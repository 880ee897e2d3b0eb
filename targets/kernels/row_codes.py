"""Rows of floats as bytes with one scale a row: what products with int8 weights read, made once for all of them."""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .loops import GRAIN, span
from .registry import Call, template
from .rounding import LEAST_SCALE, quotient, to_integer
from .rows import reduce_row
from .stage import Stage
from .tensor import as_expr, product

MOST = 127


@template("edgert.RowCodes")
def row_codes(call: Call, target: Target) -> list[Stage] | None:
    """x float32 [..., K] -> codes int8 or uint8 [..., K] and scales float32 [..., 1]; attribute zero: 0 or 128."""
    x, zero = call.need(0), int(call.attrs["zero"])
    depth, codes = x.shape[-1], call.results[0]
    if not isinstance(depth, int) or depth == 0 or x.dtype != "float32":
        return None
    rows, lanes = product(x.shape[:-1]), target.lanes("float32")
    b = Builder(f"row_codes_f32_{codes.dtype}_{target.isa}")
    with b:
        source, out = b.arg(x, (rows, depth)), b.arg(codes, (rows, depth))
        scales = b.arg(call.results[1], (rows,))
        with b.parallel(rows, max(1, GRAIN // depth)) as row:
            size = reduce_row(b, "max", "float32", lanes, depth, lambda k: tirx.abs(source[row, k]))
            most, least = tirx.const(float(MOST), "float32"), tirx.const(LEAST_SCALE, "float32")
            scale = b.let(tirx.max(size / most, least), "scale")
            b.store(scales, row, scale)
            over = b.let(tirx.const(1.0, "float32") / scale, "over")
            minus = b.let(tirx.const(0.0, "float32") - scale, "minus")

            def code(k: tirx.Expr) -> None:
                value = quotient(b.let(source[row, as_expr(k)], "x"), minus, over)
                b.store(out, (row, k), to_integer(value, zero, zero - MOST - 1, zero + MOST, codes.dtype))

            span(b, depth, lanes, code)
    return [b.stage()]
