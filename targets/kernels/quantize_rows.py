"""Rows of floats as bytes with a scale for each block: the left side of gemm_int4x8, made once for all its readers."""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .code_rows import CodeRows
from .dot import load_vector
from .registry import Call, template
from .stage import Stage


@template("edgert.QuantizeRows")
def quantize_rows(call: Call, target: Target) -> list[Stage] | None:
    """x float32 [..., K] -> int8 [..., K], scales float32 [..., K/block], -8 times the sums int32 [..., K/sums].

    And, where wanted, scale times sum, float32 [..., K/block], and tiles as half_rows.py has them.
    """
    if not CodeRows.take(call):
        return None
    block, each = (int(call.attrs.get(name, call.attrs["block"])) for name in ("block", "sums"))
    b = Builder(f"quantize_rows_f32s8_g{block}{f's{each}' if each != block else ''}_{target.isa}")
    out = CodeRows(b, call, target)
    source = b.arg(call.need(0), (out.rows, out.depth))
    with b, b.parallel(out.rows, out.grain) as row:

        def block_of(at: tirx.Expr) -> list[tirx.Expr]:
            return [b.let(load_vector(source, row, at * block + i, count=out.lanes)) for i in out.places()]

        out.put(row, block_of)
    return [b.stage()]
