"""Products with weights of 4 and 8 bits, unpacked in the kernel: a word of codes for each column of the tile at a time.

Codes lie as [ceil(K/8), N] words (of 8 bits as [K, N] bytes), so that neighbouring work items read neighbours.
"""

from __future__ import annotations

from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from ..blocked_weights import BlockedWeights
from ..loops import ceil_div
from ..nibbles import WORD, shift_of
from ..registry import Call, template
from ..stage import Const, Stage
from ..tensor import Index, Tensor, product
from .grid import Grid, place_of
from .tile import Tile, kept, rows_of


@template("edgert.GemmBlocked", "gpu")
def gemm_blocked(call: Call, target: Target) -> list[Stage] | None:
    """A float32 [..., M, K] x constant (q - zero) * scale: q of 4 or 8 bits [K, N] (transB: [N, K])."""
    weights = BlockedWeights.of(call.attrs, *call.inputs[1:4])
    assert isinstance(target, Gpu)
    if weights is None or not takes(call, weights):
        return None
    return [Blocked(call, target, weights, "gemm_blocked").stage()]


@template("edgert.GemmLookup", "gpu")
def gemm_lookup(call: Call, target: Target) -> list[Stage] | None:
    """A float32 [..., M, K] x table[index] * scale: index [K, N] (transB: [N, K]), table [16] (many: and book)."""
    index, table, scale, book = (*call.inputs[1:], None, None, None)[:4]
    weights = BlockedWeights.of(call.attrs, index, scale)
    assert isinstance(target, Gpu)
    if weights is None or table is None or not takes(call, weights) or int(table.shape[-1]) != 16:
        return None
    return [_Lookup(call, target, weights, table, book).stage()]


def takes(call: Call, weights: BlockedWeights, dtype: str = "float32") -> bool:
    """Whether the left side is of that type, and words of codes have one scale."""
    a = call.need(0)
    whole = weights.bits == 8 or weights.step % WORD == 0 or weights.blocks == 1
    return a.dtype == dtype and whole and not any(isinstance(size, int) and size == 0 for size in a.shape)


class Blocked:
    """One product under construction."""

    def __init__(self, call: Call, target: Gpu, weights: BlockedWeights, name: str) -> None:
        self.call, self.target, self.w = call, target, weights
        *self.lead, _ = call.outputs[0].shape
        self.rows = product(self.lead)
        self.height, self.width = rows_of(self.rows, target), target.vector
        self.wide = -(-weights.cols // self.width) * self.width
        self.b = Grid(f"{name}_{weights.q.dtype}_{self.height}x{self.width}", target)

    def stage(self) -> Stage:
        """The kernel."""
        b, w = self.b, self.w
        grid = [ceil_div(self.rows, self.height), self.wide // self.width]
        with b:
            self.operands()
            with b.items(product(grid)) as item:
                down, across = place_of(item, grid)
                self.first = b.let(across * self.width)
                self.tile = Tile(b, self.height, self.width)
                at, stored = kept(b, b.let(down * self.height), self.height, self.rows)
                self.heads = [place_of(row, self.lead) if len(self.lead) > 1 else [row] for row in at]
                whole = w.depth // w.step
                with b.serial(whole, "block") as block:
                    self.block(block, w.step)
                if w.depth % w.step:
                    self.block(tirx.const(whole, "int32"), w.depth % w.step)
                even = w.cols == self.wide
                self.tile.finish(
                    self.call, lambda r, c: (*self.heads[r], self.first + c), stored,
                    None if even else lambda c: self.first + c < w.cols,
                )  # fmt: skip
        return b.stage()

    def operands(self) -> None:
        """The kernel's buffers."""
        b, w = self.b, self.w
        self.left, self.codes = b.arg(self.call.need(0)), b.arg(self.packed())
        self.scales = None if w.scale is None else b.arg(w.scales(self.wide, self.target))
        self.zeros = None if w.centred else b.arg(w.zeros(self.wide))

    def packed(self) -> Const:
        """The codes, of 4 bits as 0 to 15."""
        return self.w.codes(self.wide, self.w.bits == 4)

    def row(self, buffer: tirx.Var, at: Index) -> tirx.Var:
        """What the tile's columns have in row `at` of a buffer."""
        return self.tile.vector(lambda v: self.b.load(buffer, 0, at, self.first + v), True)

    def block(self, block: Index, count: int) -> None:
        """`count` weights of each column, with one scale."""
        b, w, tile, step = self.b, self.w, self.tile, WORD if self.w.bits == 4 else 1
        scale = None if self.scales is None else self.row(self.scales, block)
        zero = None if self.zeros is None else self.row(self.zeros, block)
        weights = b.local((self.width,), "float32")

        def some(part: Index, numbers: int) -> None:
            at = block * -(-w.step // step) + part
            held = self.row(self.codes, at)
            for i in range(numbers):
                self.unpack(weights, held, i, zero)
                if scale is not None:
                    with b.vector(self.width) as v:
                        b.store(weights, v, weights[v] * scale[v])
                for r, head in enumerate(self.heads):
                    tile.add(r, b.let(b.load(self.left, *head, at * step + i)), weights)

        with b.serial(count // step, "part") as part:
            some(part, step)
        if count % step:
            some(tirx.const(count // step, "int32"), count % step)

    def unpack(self, weights: tirx.Var, held: tirx.Var, i: int, zero: tirx.Var | None) -> None:
        """Number `i` of what was loaded, as floats."""
        b, w = self.b, self.w
        with b.vector(self.width) as v:
            code = held[v]
            if w.bits == 4:
                code = tirx.shift_right(code, tirx.const(shift_of(i), "uint32")) & tirx.const(15, "uint32")
            fixed = tirx.const(w.middle or 0 if w.bits == 4 else 0, "int32")
            b.store(weights, v, (code.astype("int32") - (fixed if zero is None else zero[v].astype("int32"))))


class _Lookup(Blocked):
    """Codes that are the numbers of floats in a table."""

    def __init__(self, call: Call, target: Gpu, weights: BlockedWeights, table: Tensor, book: Tensor | None) -> None:
        super().__init__(call, target, weights, "gemm_lookup")
        self.table, self.book = table, book

    def operands(self) -> None:
        super().operands()
        self.levels = self.b.arg(self.table)
        self.tables = None if self.book is None else self.b.arg(self.book)

    def packed(self) -> Const:
        return self.w.nibbles(self.wide)

    def block(self, block: Index, count: int) -> None:
        columns = [tirx.min(self.first + c, self.w.cols - 1) for c in range(self.width)]
        self.which = None if self.tables is None else [self.b.let(self.b.load(self.tables, n)) for n in columns]
        super().block(block, count)

    def unpack(self, weights: tirx.Var, held: tirx.Var, i: int, zero: tirx.Var | None) -> None:
        for c in range(self.width):
            code = tirx.shift_right(held[c], tirx.const(shift_of(i), "uint32")) & tirx.const(15, "uint32")
            at = [code.astype("int32")]
            self.b.store(weights, c, self.b.load(self.levels, *at if self.which is None else (self.which[c], *at)))
