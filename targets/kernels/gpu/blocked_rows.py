"""Products of rows rounded to bytes in blocks with 4-bit weights: sums of codes in int32, four products at a time."""

from __future__ import annotations

from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from ..blocked_weights import BlockedWeights
from ..nibbles import WORD
from ..registry import Call, template
from ..stage import Stage
from ..tensor import Index, same_dim
from .blocked import Blocked, takes
from .dot import QUAD, dot, quad
from .tile import Tile

NIBBLES = 0x0F0F0F0F


@template("edgert.GemmInt4x8", "gpu")
def gemm_int4x8(call: Call, target: Target) -> list[Stage] | None:
    """What QuantizeRows gives x constant 4-bit weights with as many blocks."""
    weights = BlockedWeights.of(call.attrs, *call.inputs[3:6])
    assert isinstance(target, Gpu)
    if weights is None or not takes(call, weights, "int8") or weights.bits != 4 or weights.block % WORD:
        return None
    if weights.depth % weights.step or not same_dim(call.need(2).shape[-1], weights.blocks):
        return None
    return [_Int4x8(call, target, weights, "gemm_int4x8").stage()]


class _Int4x8(Blocked):
    """Codes on both sides."""

    def operands(self) -> None:
        super().operands()
        self.left_scale, self.offset = (self.b.arg(self.call.need(i)) for i in (1, 2))

    def block(self, block: Index, count: int) -> None:
        b, w, width = self.b, self.w, self.width
        assert self.scales is not None
        scale = self.row(self.scales, block)
        zero = None if self.zeros is None else self.row(self.zeros, block)
        sums = Tile(b, self.height, width, "int32").sums
        with b.serial(count // WORD, "part") as part:
            at = block * (w.step // WORD) + part
            held = self.row(self.codes, at)
            for half in range(2):
                codes = [tirx.shift_right(held[c], tirx.const(4 * half, "uint32")) for c in range(width)]
                codes = [b.let(code & tirx.const(NIBBLES, "uint32")) for code in codes]
                for r, head in enumerate(self.heads):
                    word = b.let(quad(b.load(self.left, *head, at * WORD + half * QUAD)))
                    for c in range(width):
                        place = r * width + c
                        b.store(sums, place, dot(word, "int8", codes[c], "uint8", sums[place]))
        for r, head in enumerate(self.heads):
            factor, offset = b.let(b.load(self.left_scale, *head, block)), b.let(b.load(self.offset, *head, block))
            for c in range(width):
                total = sums[r * width + c]
                if zero is not None:  # the offset is -8 times the sum of the row's codes
                    total = total + tirx.shift_right(offset, tirx.const(3, "int32")) * zero[c].astype("int32")
                elif w.middle:
                    total = total + offset
                place = r * width + c
                b.store(self.tile.sums, place, self.tile.sums[place] + total.astype("float32") * factor * scale[c])
