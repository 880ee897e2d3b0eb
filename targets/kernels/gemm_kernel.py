"""The kernel of a matrix product with packed constant weights, and how its tasks walk over rows and panels.

Float32, or bytes summed in int32: a quad of bytes takes the place of a float, the walk is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from .builder import Builder
from .dot import QUAD, bytes_as_word, dot_of, load_vector, load_word
from .dot_tile import clear_sums, fitting, sum_quads
from .gemm_tasks import known_rows, row_tiles, rows_a_task
from .registry import Call
from .slides import let_slide, on_one_thread
from .stage import Const, Stage
from .tails import MatrixTail, unravel
from .tensor import Index, Tensor, as_expr, simplify
from .tiles import Tile, choose_tile
from .tiles_emit import clear, prefetch, reduce_into, steps_a_turn, store_tile

FEW_ROWS_AHEAD = 4096  # elements ahead of the one in use, where every weight is used once


def pick(call: Call, rows: Index, cols: int, depth: int, target: Target) -> Tile:
    """The tile of the tuning records, else the cost model's."""
    lanes = target.lanes("float32")
    if "mr" in call.config:
        return Tile(call.config["mr"], call.config["nr"] // lanes, lanes)
    return choose_tile(known_rows(rows), cols, depth, target)


def matrix_product(
    call: Call, target: Target, kernel: str, rows: Index, left: Tensor, weights: Callable[[int], Const],
    depth: int, cols: int,
) -> list[Stage]:  # fmt: skip
    """The stage of `left` seen as [rows, depth] times weights, which `weights(nr)` packs in panels of nr columns."""
    kind = _FloatKernel if left.dtype == "float32" else _ByteKernel
    return [kind(call, target, kernel, rows, left, weights, depth, cols).stage()]


class _Kernel:
    """One product under construction. The walk is chosen so that whatever does not stay in a cache is read once:

    rows: the weights stay in L1, and a tile of rows goes through all panels, writing whole rows;
    panels: the input stays in L2, and each panel of the weights meets all rows while the next one is prefetched;
    blocks: neither; blocks of rows that stay in L2 go through all panels.
    """

    def __init__(
        self, call: Call, target: Target, kernel: str, rows: Index, left: Tensor, weights: Callable[[int], Const],
        depth: int, cols: int,
    ) -> None:  # fmt: skip
        self.rows, self.depth, self.steps = rows, depth, self.steps_of(depth)
        self.target, self.input, self.result = target, left, call.result
        depth = self.steps
        self.tile = tile = self.fitted(pick(call, rows, cols, depth, target), target)
        self.panels = -(-cols // tile.cols)
        self.last_cols = cols - (self.panels - 1) * tile.cols
        if depth * tile.cols * self.panels * 4 <= 0.6 * target.l1_bytes:
            self.walk = "rows"
        else:
            self.walk = "panels" if known_rows(rows) * depth * 4 <= target.l2_bytes // 2 else "blocks"
        shared = 1 if self.walk == "rows" else self.panels
        self.block = call.config.get("mc") or rows_a_task(known_rows(rows), tile, depth, shared, target)
        if on_one_thread(target) and isinstance(rows, int):
            self.block = -(-rows // tile.rows) * tile.rows
        self.b = Builder(f"{kernel}_{self.types(left)}_{tile.rows}x{tile.cols}_{target.isa}")
        self.packed_const = packed = weights(tile.cols)
        self.left, self.weights = self.b.arg(left, (rows, self.depth)), self.b.arg(packed)
        self.flat = self.b.arg(packed, (math.prod(packed.shape),))
        self.tail = MatrixTail(self.b, call)

    def stage(self) -> Stage:
        """The kernel."""
        b, blocks = self.b, simplify((self.rows + (self.block - 1)) // self.block)
        if self.walk == "rows":
            with b, b.parallel(blocks) as p:
                row_tiles(b, self.rows, b.let(p * self.block), self.block, self.tile.rows, self.all_panels)
            return self.sliding(b.stage(once=True))
        if self.walk == "panels":
            size = math.prod(self.packed_const.shape) * item_size(self.packed_const.dtype)
            b.reading.span(self.packed_const, self.panels, size // self.panels)
        with b, b.parallel(simplify(blocks * self.panels)) as p:
            if self.walk == "panels":
                panel, block = unravel(b, p, [self.panels, blocks])
            else:
                block, panel = unravel(b, p, [blocks, self.panels])
            at = b.let(block * self.block)

            def body(width: int) -> None:
                row_tiles(b, self.rows, at, self.block, self.tile.rows, lambda n, m: self.product(n, m, panel, width))

            if self.last_cols == self.tile.cols or self.panels == 1:
                body(self.last_cols)
            else:
                with b.when(panel < self.panels - 1):
                    body(self.tile.cols)
                with b.otherwise():
                    body(self.last_cols)
        return b.stage(once=True)

    def sliding(self, stage: Stage) -> Stage:
        """The stage with what tiles of rows that are done from front to back allow."""
        rows, step, cols = self.rows, self.tile.rows, (self.panels - 1) * self.tile.cols + self.last_cols
        if not isinstance(rows, int):
            return stage
        tiles = range(0, rows, step)
        pieces = [(min(first + step, rows) * cols, first * self.depth) for first in tiles]
        return let_slide(stage, self.input, self.result, pieces, self.target)

    def all_panels(self, count: int, first: tirx.Expr) -> None:
        """`count` rows from `first`, every column."""
        whole = self.panels if self.last_cols == self.tile.cols else self.panels - 1
        if whole:
            with self.b.serial(whole, "panel") as panel:
                self.product(count, first, panel, self.tile.cols)
        if whole < self.panels:
            self.product(count, first, tirx.const(whole, "int64"), self.last_cols)

    def product(self, count: int, first: tirx.Expr, panel: tirx.Expr, width: int) -> None:
        """One tile: `count` rows from `first`, the first `width` columns of a panel."""
        b, tile = self.b, self.tile
        each = self.ahead(panel, first) if self.walk == "panels" and count == tile.rows else None
        acc = self.sums(count, first, panel, each)
        store_tile(b, acc, count, width, tile, lambda v, i, c: self.tail.write(v, first + i, panel * tile.cols + c))

    def ahead(self, panel: tirx.Expr, first: tirx.Expr) -> Callable[[tirx.Expr], None]:
        """Prefetches the next panel while the tiles of this one compute: each tile of rows takes an even part.

        Weights come from beyond L2 once a run; without this the first tile of every panel waits for them.
        """
        b, tile, line = self.b, self.tile, 64 // 4 * self.packed
        tiles = max(1, known_rows(self.rows) // tile.rows)
        turn = self.turn()
        lines = -(-turn * tile.cols * self.packed // (line * tiles))
        share = -(-self.steps // turn) * lines * line  # elements of one tile's part
        size = self.steps * tile.cols * self.packed
        if tiles > 1:
            last = tirx.const(-(-size // share) - 1, "int64")
            part = tirx.min(tirx.truncdiv(first, tirx.const(tile.rows, "int64")), last)
            begin = b.let((panel + 1) * size + part * share)
        else:
            begin = b.let(panel * size + FEW_ROWS_AHEAD * self.packed)

        def each(k: tirx.Expr) -> None:
            for i in range(lines):
                prefetch(b, self.flat, begin + k * (lines * line) + i * line)

        return each

    packed = 1  # elements of the weights in 32 bits

    def types(self, left: Tensor) -> str:
        """The operands' types, for the kernel's name."""
        raise NotImplementedError

    def steps_of(self, depth: int) -> int:
        """The reduction's length in steps of 32 bits."""
        raise NotImplementedError

    def fitted(self, tile: Tile, target: Target) -> Tile:
        """The tile as this kind of product can hold it."""
        raise NotImplementedError

    def turn(self) -> int:
        """Steps in one turn of the inner loop."""
        raise NotImplementedError

    def sums(
        self, count: int, first: tirx.Expr, panel: tirx.Expr, each: Callable[[tirx.Expr], None] | None
    ) -> tirx.Var:
        """The accumulators of one tile after the reduction; `each` is emitted once a turn."""
        raise NotImplementedError


class _FloatKernel(_Kernel):
    def types(self, left: Tensor) -> str:
        return "f32"

    def steps_of(self, depth: int) -> int:
        return depth

    def fitted(self, tile: Tile, target: Target) -> Tile:
        return tile

    def turn(self) -> int:
        return steps_a_turn(self.tile)

    def sums(
        self, count: int, first: tirx.Expr, panel: tirx.Expr, each: Callable[[tirx.Expr], None] | None
    ) -> tirx.Var:
        acc = clear(self.b, count, self.tile)
        reduce_into(
            self.b, acc, range(count), self.tile, self.depth, lambda i, k: self.left[first + i, k],
            lambda k, c: self.weights[panel, k, c], each=each,
        )  # fmt: skip
        return acc


class _ByteKernel(_Kernel):
    packed = QUAD

    def types(self, left: Tensor) -> str:
        self.signed = left.dtype == "int8"
        return "s8s8" if self.signed else "u8s8"

    def steps_of(self, depth: int) -> int:
        return -(-depth // QUAD)

    def fitted(self, tile: Tile, target: Target) -> Tile:
        self.dot = dot_of(target)
        return fitting(target, self.dot, tile)

    def turn(self) -> int:
        return 2

    def sums(
        self, count: int, first: tirx.Expr, panel: tirx.Expr, each: Callable[[tirx.Expr], None] | None
    ) -> tirx.Var:
        acc = clear_sums(self.b, count, self.tile)
        wide = QUAD * self.tile.lanes

        def left(i: int, k: Index, known: int) -> tirx.Expr:
            at = as_expr(k, "int64")
            if known == QUAD:
                return load_word(self.left, first + i, at)
            return bytes_as_word(lambda n: self.left[first + i, at + n], known)

        def weights(quad: Index, j: int) -> tirx.Expr:
            return load_vector(self.weights, panel, as_expr(quad, "int64"), tirx.const(j * wide, "int64"), count=wide)

        sum_quads(
            self.b, acc, range(count), self.tile, self.dot, self.depth, left, self.signed, weights, self.turn(), each
        )  # fmt: skip
        return acc
