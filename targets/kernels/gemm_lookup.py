"""Products of floats with constant weights that are 4-bit indices into a table of 16 floats: nf4, codebooks.

The table lies in registers: AVX-512 takes 16 weights from it in one instruction, AVX2 8 in three. Scales of blocks that
are themselves quantized (QLoRA) come here as float32: a scale for 64 weights adds half a bit to each of them, decoding
them in the kernel would cost more than reading that, and the products are those of the model bit by bit.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

from .blocked_weights import BlockedWeights
from .builder import Builder
from .gemm_blocked import BlockedKernel
from .nibbles import WORD, Codes, Lookup
from .registry import Call, template
from .stage import Const, Stage


@template("edgert.GemmLookup")
def gemm_lookup(call: Call, target: Target) -> list[Stage] | None:
    """a float32 [..., M, K] x table[index] * scale: index [K, N] (transB: [N, K]), table [16] or [groups, 16]."""
    index, table, scale = call.need(1), call.need(2), call.inputs[3] if len(call.inputs) > 3 else None
    weights = BlockedWeights.of(call.attrs, index, scale)
    if weights is None or table.data is None or int(table.shape[-1]) != 16:
        return None
    rows = int(call.attrs.get("rows", 0)) if table.ndim == 2 else 0
    if table.ndim == 2 and weights.block in (0, rows):
        weights.block = rows
    if weights.block % WORD or (rows and rows % weights.block):
        return None
    return _Kernel(call, target, weights, rows).stages_of()


class _Kernel(BlockedKernel):
    def __init__(self, call: Call, target: Target, weights: BlockedWeights, rows: int) -> None:
        super().__init__(call, target, weights, "gemm_lookup_f32")
        self.per_table = rows

    def stages_of(self) -> list[Stage] | None:
        """The stage, with the packed indices and the table."""
        weights, table, lanes = self.weights, self.call.need(2), self.lanes
        data = table.data
        assert data is not None
        shape = (int(np.prod(table.shape)) // 16, 16)
        codes = weights.nibbles(lanes)
        levels = Const(shape, "float32", lambda: np.asarray(data(), np.float32).reshape(shape), f"{table.name}:levels")

        def reader(b: Builder, lanes: int) -> Codes:
            self.lookup = Lookup(b, b.arg(codes), b.arg(levels), lanes, self.target)
            return self.lookup

        return self.stages(reader)

    def _table(self, block: tirx.Expr) -> None:
        per = self.per_table // self.weights.step if self.per_table else 0
        self.lookup.begin(tirx.truncdiv(block, tirx.const(per, "int64")) if per else tirx.const(0, "int64"))
