"""The middle of a gated feed-forward layer (Shazeer, arXiv 2002.05202), made and quantized in one kernel."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.target import Target

from . import vmath
from .builder import Builder
from .code_rows import CodeRows
from .dot import load_vector
from .registry import Call, template
from .stage import Leaf, Stage
from .tensor import Index, same_shape


@template("edgert.GatedCodes")
def gated_codes(call: Call, target: Target) -> list[Stage] | None:
    """gate, up float32 [..., K] -> QuantizeRows's outputs of activation(gate) * up; attribute activation as ACTIVE."""
    if not CodeRows.take(call) or call.need(1).dtype != "float32":
        return None
    if not same_shape(call.need(0).shape, call.need(1).shape):
        return None
    return [gated_stage(call, target, (call.need(0), call.need(1)))]


def gated_stage(call: Call, target: Target, operands: tuple[Leaf, Leaf], runs: Index = 1) -> Stage:
    """The stage, of gate and up as they lie in `operands`. runs: 1, or 0 to skip it."""
    name = str(call.attrs["activation"])
    b = Builder(f"{name}_gated_codes_f32s8_g{call.attrs['block']}_{target.isa}")
    out = CodeRows(b, call, target)
    gate, up = (b.arg(leaf, (out.rows, out.depth)) for leaf in operands)
    with b, b.parallel(out.rows * runs, max(1, out.grain // COST)) as row:

        def block(at: tirx.Expr) -> list[tirx.Expr]:
            made = b.local((out.block,), "float32")
            first = b.let(at * out.block)
            for i in out.places():
                with b.vector(out.lanes) as v:
                    k = first + i + v
                    b.store(made, i + v, ACTIVE[name](b, b.let(gate[row, k])) * up[row, k])
            return [b.let(load_vector(made, tirx.const(i, "int32"), count=out.lanes)) for i in out.places()]

        out.put(row, block)
    return b.stage()


def _silu(b: Builder, x: tirx.Expr) -> tirx.Expr:
    """x / (1 + e^-x), of z = e^-|x|: in 8 bits denormal ones do not matter."""
    zero, one = tirx.const(0.0, "float32"), tirx.const(1.0, "float32")
    z = b.keep(vmath.exp_flush(b.let(tirx.min(x, zero - x))))
    return tirx.Select(x < zero, x * z, x) / (z + one)


def _gelu_tanh(b: Builder, x: tirx.Expr) -> tirx.Expr:
    """Hendrycks and Gimpel, arXiv 1606.08415."""
    one, half, root, cube = (tirx.const(c, "float32") for c in (1.0, 0.5, 0.7978845608028654, 0.044715))
    inner = b.let((x + x * x * x * cube) * root)
    return half * x * (one + vmath.tanh(inner))


COST = 4  # what an element takes, beside one that is only moved
ACTIVE: dict[str, Callable[[Builder, tirx.Expr], tirx.Expr]] = {"silu": _silu, "gelu_tanh": _gelu_tanh}
