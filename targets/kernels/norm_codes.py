"""RMS normalisation whose result is only ever read as bytes: normalised and quantized in one kernel."""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .code_rows import CodeRows
from .dot import load_vector
from .registry import Call, template
from .rows import reduce_row
from .stage import Stage


@template("edgert.NormCodes")
def norm_codes(call: Call, target: Target) -> list[Stage] | None:
    """x float32 [..., K], weight float32 [K] -> QuantizeRows's outputs of x / sqrt(mean(x^2) + epsilon) * weight.

    Sums as normalization.py's RMSNormalization does, so that both give the same bits.
    """
    x, scale = call.need(0), call.need(1)
    if not CodeRows.take(call) or scale.dtype != "float32" or scale.shape != x.shape[-1:]:
        return None
    b = Builder(f"norm_codes_f32s8_g{call.attrs['block']}_{target.isa}")
    out = CodeRows(b, call, target)
    depth, lanes = out.depth, out.lanes
    source, weight = b.arg(x, (out.rows, depth)), b.arg(scale)
    with b, b.parallel(out.rows, out.grain) as row:

        def squared(k: tirx.Expr) -> tirx.Expr:
            value = b.let(source[row, k])
            return value * value

        variance = reduce_row(b, "sum", "float32", target.lanes("float32"), depth, squared)
        variance = variance * tirx.const(1 / depth, "float32")
        epsilon = tirx.const(float(call.attrs["epsilon"]), "float32")
        factor = tirx.Broadcast(b.let(tirx.const(1.0, "float32") / tirx.sqrt(variance + epsilon)), lanes)

        def normal(at: tirx.Expr) -> list[tirx.Expr]:
            starts = [b.let(at * out.block + i) for i in out.places()]
            parts = [load_vector(source, row, s, count=lanes) * factor for s in starts]
            return [b.let(p * load_vector(weight, s, count=lanes)) for p, s in zip(parts, starts, strict=True)]

        out.put(row, normal)
    return [b.stage()]
