"""The first half of a gated feed-forward layer, both products and what follows them, as rows of the second half.

Few rows: products into scratch, then gated_codes.py. Many: a task multiplies a panel of each of the two weights, so
that gate and up of the same elements lie side by side while they are still in the nearest cache, and stores bfloat16.
"""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from .amx import SIDE
from .block_codes import BlockCodes
from .builder import Builder
from .dot import load_vector
from .gated_codes import ACTIVE, gated_stage
from .gemm_blocks_amx import AmxBlocks
from .gemm_blocks_bf16 import PAIR, Bf16Task
from .half_rows import LEAST, HalfRows
from .joint_blocks import parts
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
        b = self.b
        made = b.local((SIDE,), "float32")
        with b.vector(SIDE) as v:
            gate = b.let(self.totals[line, v])
            b.store(made, v, ACTIVE[self.activation](b, gate) * self.totals[line, v + SIDE])
        self.out.store(row, panel * SIDE, b.let(load_vector(made, tirx.const(0, "int32"), count=SIDE)))
