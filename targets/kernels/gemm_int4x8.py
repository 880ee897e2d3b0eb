"""Products of rows quantized in blocks (quantize_rows.py) with constant 4-bit weights in blocks of the same size.

Integer sums in each block; then scale of the row's block times scale of the column's, added up in float32. Codes are
kept as 0 to 15. That makes signed ones too large by 8, for which the sums start at -8 times the sum of the row's codes.
"""

from __future__ import annotations

from tvm import tirx

from targets.target import Target

from .blocked_weights import BlockedWeights
from .builder import Builder
from .dot import QUAD, load_vector, load_words, store_vector
from .nibble_dot import MOST, halves, sum_of
from .nibbles import WORD, splat
from .panels import walk
from .registry import Call, template
from .stage import Stage
from .tails import MatrixTail
from .tensor import intrinsic, product
from .tiles import Tile
from .tiles_emit import store_tile


@template("edgert.GemmInt4x8")
def gemm_int4x8(call: Call, target: Target) -> list[Stage] | None:
    """codes int8 [..., M, K], scales and offsets [..., M, K/block] x constant 4-bit [K, N] (transB: [N, K])."""
    weights = BlockedWeights.of(call.attrs, *call.inputs[3:6])
    if weights is None or weights.scale is None or weights.bits != 4 or weights.step % WORD:
        return None
    if weights.depth % weights.step:
        return None
    return _Kernel(call, target, weights).stages()


class _Kernel:
    """One product under construction."""

    def __init__(self, call: Call, target: Target, weights: BlockedWeights) -> None:
        self.call, self.target, self.weights = call, target, weights
        self.lanes = target.lanes("int32")
        self.a = call.need(0)
        self.rows = product(self.a.shape[:-1])
        self.quads = weights.step // QUAD
        # beside its sums in float a tile holds the codes of up to MOST quads, and more sums where a block has more
        most = 16 if target.registers >= 32 else 4
        self.tile = (most if self.quads <= MOST else most // 2, 1)
        self.most = MOST
        if target.dot == "smlad":  # few registers: a word of codes a column at once
            self.tile, self.most = (2, 1), 2
        if isinstance(self.rows, int):
            self.tile = (max(1, min(self.rows, self.tile[0])), 1)
        kind = weights.q.dtype
        self.b = Builder(f"gemm_s8{kind}_g{weights.step}_{self.tile[0]}x{self.tile[1]}_{target.isa}")

    def stages(self) -> list[Stage] | None:
        """The stage; None for an empty product."""
        b, w, lanes = self.b, self.weights, self.lanes
        if isinstance(self.rows, int) and self.rows == 0:
            return None
        self.left = b.arg(self.a, (self.rows, w.depth))
        self.left_scale, self.offset = (b.arg(self.call.need(i), (self.rows, w.blocks)) for i in (1, 2))
        self.codes, self.scale = b.arg(w.codes(lanes, biased=True)), b.arg(w.scales(lanes, self.target))
        self.zero = None if w.centred else b.arg(w.zeros(lanes))
        self.tail = MatrixTail(b, self.call)
        self.add = sum_of(self.target, lanes)
        with b:
            size = lanes * w.depth // 2
            walk(b, self.rows, w.cols, w.depth, lanes, self.tile, 1, size, self.target, self.emit)
        return [b.stage()]

    def emit(self, count: int, first: tirx.Expr, panel: tirx.Expr, vecs: int, width: int) -> None:
        """`count` rows from `first` times one panel, of which `width` columns are stored."""
        assert vecs == 1
        b, lanes = self.b, self.lanes
        total = b.local((count, lanes), "float32")
        for i in range(count):
            store_vector(b, total, splat(0.0, "float32", lanes), _int(i), _int(0))
        with b.serial(tirx.const(self.weights.blocks, "int64"), "block") as block:
            self._block(total, count, first, panel, block)
        tile = Tile(count, 1, lanes)
        store_tile(b, total, count, width, tile, lambda v, i, c: self.tail.write(v, first + i, panel * lanes + c))

    def _block(self, total: tirx.Var, count: int, first: tirx.Expr, panel: tirx.Expr, block: tirx.Expr) -> None:
        b, lanes = self.b, self.lanes
        floats = f"float32x{lanes}"
        scale = b.let(load_vector(self.scale, panel, block, _int(0), count=lanes).astype(floats))
        zero = None
        if self.zero is not None:  # in units of the -8 times the row's sum that quantize_rows gives
            held = load_vector(self.zero, panel, block, _int(0), count=lanes).astype(floats)
            zero = b.let(held * splat(0.125, "float32", lanes))
        sums: list[tirx.Expr] = []
        for start in range(0, self.quads, self.most):
            quads = min(self.most, self.quads - start)
            codes = []
            for word in range(start // 2, (start + quads) // 2):
                loaded = b.let(load_vector(self.codes, panel, block * (self.quads // 2) + word, _int(0), count=lanes))
                codes += [b.let(half) for half in halves(loaded, lanes)]
            for i in range(count):
                at = block * self.weights.step + start * QUAD
                words = load_words(b, self.target, self.left, quads, first + i, at)
                acc = sums[i] if start else self._begin(first + i, block)
                made = b.let(self.add(acc, codes, words))
                sums[i : i + 1] = [made]
                if start + quads == self.quads:
                    self._finish(total, i, made, first + i, block, scale, zero)

    def _begin(self, row: tirx.Expr, block: tirx.Expr) -> tirx.Expr:
        if not self.weights.signed:
            return splat(0, "int32", self.lanes)
        return tirx.Broadcast(self.offset[row, block], self.lanes)

    def _finish(
        self, total: tirx.Var, i: int, acc: tirx.Expr, row: tirx.Expr, block: tirx.Expr, scale: tirx.Expr,
        zero: tirx.Expr | None,
    ) -> None:  # fmt: skip
        lanes = self.lanes
        value = acc.astype(f"float32x{lanes}")
        if zero is not None:  # whole numbers below 2^24: exact
            value = value + tirx.Broadcast(self.offset[row, block], lanes).astype(f"float32x{lanes}") * zero
        value = value * scale
        old = load_vector(total, _int(i), _int(0), count=lanes)
        x_scale = tirx.Broadcast(self.left_scale[row, block], lanes)
        # fused by name, which LLVM does on some targets by itself: all have the same bits
        store_vector(self.b, total, intrinsic(f"float32x{lanes}", "fma", value, x_scale, old), _int(i), _int(0))


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")
