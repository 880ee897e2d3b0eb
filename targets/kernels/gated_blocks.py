"""The first half of a gated feed-forward layer, both products and what follows them, as rows of the second half.

Few rows: products into scratch, then gated_codes.py. Many: a task multiplies a panel of each of the two weights, so
that gate and up of the same elements lie side by side while they are still in the nearest cache, and stores bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from targets.target import Target

from .amx import SIDE
from .block_codes import BlockCodes
from .builder import Builder
from .dot import load_vector
from .exp2 import exp2
from .gated_codes import gated_stage
from .gemm_blocks_amx import AmxBlocks
from .gemm_blocks_bf16 import PAIR, Bf16Task
from .half_rows import LEAST, HalfRows
from .joint_blocks import parts
from .nibbles import splat
from .registry import Call, template
from .stage import Stage
from .tensor import Tensor, product


@template("edgert.GatedBlocks")
def gated_blocks(call: Call, target: Target) -> list[Stage] | None:
    """See compiler/ops/decoder_rows.py. Only where tiles are read and made, of a number of rows known at run time."""
    own, attrs = parts(call.inputs[:-1], call.attrs)
    tiles, rows = call.inputs[-1], product(call.need(0).shape[:-1])
    assert tiles is not None
    kinds = [BlockCodes.of(a, inputs[3:8], target) for inputs, a in zip(own, attrs, strict=True)]
    cols = kinds[0].cols if kinds[0] is not None else 0
    held = [Tensor((LEAST - 1, cols), "float32", name) for name in ("gate", "up")]
    b: Builder | None = None
    products: list[AmxBlocks] = []
    for inputs, a, kind, temp in zip(own, attrs, kinds, held, strict=True):
        if kind is None:
            return None
        out = Tensor((rows, cols), "float32", "product")
        one = AmxBlocks(Call("edgert.GemmBlocks", a, inputs[:-1], [out], out, [temp]), target, kind, tiles, b)
        products.append(one)
        b = one.b
    assert b is not None
    for one in products:
        one.operands()
    gate, up = products
    name = str(call.attrs["activation"])
    b.kernel += f"_{name}_gated"
    with b:
        gate.run(_GatedTask((gate, up), tiles, HalfRows(b, call, rows), name), products)
    runs = tirx.Select(rows >= LEAST, tirx.const(0, "int64"), tirx.const(1, "int64"))
    apart: list[Tensor | None] = [Tensor((rows, cols), "float32", temp.name) for temp in held]
    settings = {**call.attrs, "tiles": 0}
    codes = Call("edgert.GatedCodes", settings, apart, call.outputs[:-1], call.final, call.results[:-1])
    return [b.stage(), gated_stage(codes, target, (held[0], held[1]), runs)]


class _GatedTask(Bf16Task):
    """Panels of the two weights that have the same number, and the one after them."""

    def __init__(self, sides: tuple[AmxBlocks, AmxBlocks], rows: Tensor, out: HalfRows, activation: str) -> None:
        super().__init__(sides, rows)
        self.out, self.activation = out, activation

    def panel(self, panel: tirx.Expr, p: int) -> tirx.Expr:
        """Both sides have the same."""
        return panel

    def task(self, first: tirx.Expr, panel: tirx.Expr) -> None:
        """Up to BAND rows from `first`, two panels one after the other: together a cache line of each row."""
        with self.b.serial(tirx.const(PAIR, "int64"), "panel") as p:
            super().task(first, self.b.let(panel + p))

    def fetch(self, row: tirx.Expr, r: tirx.Expr, panel: tirx.Expr) -> None:
        """The tiles are small enough to be in a near cache."""

    def store(self, row: tirx.Expr, line: tirx.Expr, panel: tirx.Expr) -> None:
        """activation(gate) * up of a row of totals."""
        gate, up = (self.b.let(load_vector(self.totals, line, _int(i), count=SIDE)) for i in (0, SIDE))
        steep = self.b.let(STEEP[self.activation](gate))
        self.out.store(row, panel * SIDE, gate * up * _logistic(self.b, steep))


def _logistic(b: Builder, x: tirx.Expr) -> tirx.Expr:
    """1 / (1 + e^-x) of a vector, to be rounded to bfloat16: see exp2.py. The quotient by one of Newton's steps."""
    one = _all(1.0)
    below = b.let(exp2(b, b.let(tirx.min(x * _all(-math.log2(math.e)), _all(126.0)))) + one)
    kind, zero, every = f"float32x{SIDE}", _all(0.0), tirx.const(-1, "int16")
    near = b.let(tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx512.rcp14.ps.512", below, zero, every))
    return near + near * (one - below * near)


def _gelu_tanh(x: tirx.Expr) -> tirx.Expr:
    return (x + x * x * x * _all(0.044715)) * _all(2 * 0.7978845608028654)


def _all(value: float) -> tirx.Expr:
    return splat(value, "float32", SIDE)


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")


# activation(x) = x / (1 + e^-STEEP(x)); (1 + tanh(y)) / 2 is the logistic function of 2y
STEEP: dict[str, Callable[[tirx.Expr], tirx.Expr]] = {"silu": lambda x: x, "gelu_tanh": _gelu_tanh}
