"""Rows of floats rounded to bytes as the model runs, one scale a row: quant/rows.py's chain as one operator."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from targets.kernels.rounding import LEAST_SCALE
from targets.kernels.row_codes import MOST
from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce

from . import mathfn as fn
from .quantize import limits, requantize
from .registry import Node, Unsupported, op


@op("RowCodes", domain="edgert")
def row_codes(node: Node) -> Sequence[Tensor]:
    """x float32 [..., K]: codes [..., K] and scales float32 [..., 1]; attribute `zero` (0: int8, 128: uint8).

    scale = max(max|x| / 127, 1e-30), code = round_half_to_even(x / scale) + zero.
    """
    x, zero = node.need(0), int(node.attr("zero"))
    if x.dtype != "float32":
        raise Unsupported(f"rows of {x.dtype}", "float32")
    dtype = "uint8" if zero else "int8"
    shape = (*x.shape[:-1], 1)
    largest = reduce(
        shape, "float32", (x.shape[-1],), "max", lambda i, r: fn.absolute(x(*i[:-1], r[0])), [x], name="largest"
    )

    def step(*i: Index) -> tirx.Expr:
        return tirx.max(largest(*i) / tirx.const(float(MOST), "float32"), tirx.const(LEAST_SCALE, "float32"))

    scale = compute(shape, "float32", step, [largest], "scale")

    def code(*i: Index) -> tirx.Expr:
        value = requantize(x(*i) / scale(*i[:-1], 0), None, "int8").astype("int32")
        return fn.add(value, as_expr(zero, "int32")).astype(dtype)

    assert limits(dtype)[1] >= MOST
    return [compute(x.shape, dtype, code, [x, scale], "codes"), scale]
