"""Rows times constant weights through the inner loops of micro.py, with the fused tail.

A task takes blocks of rows through a group of panels: of eight rows a piece of the depth is packed on the stack, all
panels of the group are multiplied with it, and at last the tail reads the sums. Packing costs about half a panel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from ..aligned import aligned_local
from ..builder import Builder
from ..dot import load_vector
from ..gemm_tasks import known_rows, row_tiles, rows_a_task
from ..registry import Call
from ..stage import LLVM, Stage
from ..tails import MatrixTail, unravel
from ..tensor import Index, Tensor, simplify
from ..tiles import Tile, chunks
from .micro import ROWS, Micro, function_ir, function_name, micro_for
from .packing import pack_rows, weights_const

GROUP = 96  # columns of a group of panels, about: sums of 3 KB
ROOM = 8 << 10  # bytes of packed rows
LEAST_ROWS, LEAST_COLS = 4, 6  # fewer leave most of a tile empty

Read = Callable[[int, Index, int], tirx.Expr]


def arm_product(
    call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray], depth: int,
    cols: int, key: str,
) -> list[Stage] | None:  # fmt: skip
    """The stage of `left` (seen as [rows, depth]) times constant weights; None where this is not the way.

    matrix: gives the weights as [depth, cols]; key: names them, equal keys for equal bytes.
    """
    way = micro_for(target, left.dtype, depth, cols)
    if way is None or known_rows(rows) < LEAST_ROWS or cols < LEAST_COLS or "mr" in call.config:
        return None
    return [_Product(call, target, kernel, rows, left, matrix, depth, cols, key, way).stage()]


class Tiles:
    """Tiles of eight rows and a group of panels: packing, multiplying, and where the tail finds the sums."""

    def __init__(self, b: Builder, way: Micro, weights: tirx.Var, depth: int, cols: int, target: Target) -> None:
        self.b, self.way, self.weights, self.depth, self.cols, self.target = b, way, weights, depth, cols, target
        self.steps = way.steps(depth)
        self.panels = -(-cols // way.width)
        self.last = cols - (self.panels - 1) * way.width
        most = min(way.most_steps or self.steps, ROOM // (ROWS * item_size(way.unit)))
        self.piece = _whole(-(-self.steps // -(-self.steps // most)), way.together)
        self.pieces = -(-self.steps // self.piece)
        self.group = min(self.panels, GROUP // way.width)
        self.groups = -(-self.panels // self.group)
        self.called: dict[str, str] = {}

    def room(self) -> None:
        """The tile's memory; once a task."""
        size = self.way.width * ROWS
        self.sums = aligned_local(self.b, (self.group, size), self.way.sums)
        self.packed = aligned_local(self.b, (self.piece * ROWS,), self.way.unit)

    def tile(self, rows: int, group: tirx.Expr, panel_at: Callable[[tirx.Expr], tirx.Expr], read: Read,
             write: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], None]) -> None:  # fmt: skip
        """`rows` rows, which `read` gives, times a group of panels; write(sum, row, column) is emitted for each.

        panel_at: the place in the weights of a panel.
        """
        b = self.b
        first = b.let(group * self.group)
        count: Index = self.group
        if self.panels % self.group:
            count = b.let(tirx.min(_int(self.group), self.panels - first))

        def piece(start: tirx.Expr, steps: Index, clear: bool) -> None:
            pack_rows(b, self.packed, self.way, rows, start, steps, self.depth, read)
            with b.serial(count, "panel") as panel:
                self.multiply(rows, panel, b.let(panel_at(first + panel)), start, steps, clear)

        piece(_int(0), min(self.piece, self.steps), True)
        if self.pieces > 1:
            with b.serial(self.pieces - 1, "piece") as p:
                start = b.let((p + _int(1)) * self.piece)
                steps = b.let(tirx.min(_int(self.piece), self.steps - start))
                piece(start, steps, False)
        with b.serial(count, "panel") as panel:
            place = b.let(first + panel)

            def put(width: int) -> None:
                for offset, lanes in chunks(width, 4):
                    with b.unroll(rows) as i, b.vector(lanes) as v:
                        value = self.sums[panel, i * self.way.width + offset + v]
                        write(value, i, place * self.way.width + (offset + v))

            if self.last == self.way.width:
                put(self.way.width)
            elif self.panels == 1:
                put(self.last)
            else:
                with b.when(place < self.panels - 1):
                    put(self.way.width)
                with b.otherwise():
                    put(self.last)

    def multiply(self, rows: int, panel: tirx.Expr, at: tirx.Expr, start: tirx.Expr, steps: Index, clear: bool) -> None:
        """Calls the inner loop for one panel."""
        name = function_name(self.way, rows, clear)
        self.called[name] = function_ir(self.way, rows, clear, self.target)
        operands = self.sums[panel, 0], self.packed[0], self.weights[at, start, 0]
        pointers = [tirx.address_of(operand) for operand in operands]
        steps = _int(steps) if isinstance(steps, int) else steps
        self.b.emit(tirx.Evaluate(tirx.call_extern("void", name, *pointers, steps)))

    def finished(self, stage: Stage) -> Stage:
        """The stage with the functions that it calls."""
        stage.func = stage.func.with_attr(LLVM, "\n".join(self.called.values()))
        return stage


class _Product:
    def __init__(
        self, call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray],
        depth: int, cols: int, key: str, way: Micro,
    ) -> None:  # fmt: skip
        self.rows, self.way = rows, way
        self.b = Builder(f"{kernel}_{way.name}_{ROWS}x{way.width}_{target.isa}")
        self.left = self.b.arg(left, (rows, depth))
        self.const = weights_const(left.name, matrix, depth, cols, way, key)
        self.tiles = Tiles(self.b, way, self.b.arg(self.const), depth, cols, target)
        self.tail = MatrixTail(self.b, call)
        words = self.tiles.steps * item_size(way.unit) // 4
        self.block = call.config.get("mc") or rows_a_task(
            known_rows(rows), Tile(ROWS, way.width // 4, 4), words, self.tiles.groups, target
        )

    def stage(self) -> Stage:
        """Tasks: groups of panels, and for each all blocks of rows, so that a group's weights stay in L2."""
        b, tiles = self.b, self.tiles
        blocks = simplify((self.rows + (self.block - 1)) // self.block)
        with b, b.parallel(simplify(blocks * tiles.groups)) as p:
            tiles.room()
            group, block = unravel(b, p, [tiles.groups, blocks])
            row_tiles(b, self.rows, b.let(block * self.block), self.block, ROWS, lambda n, at: self.tile(n, at, group))
        return tiles.finished(b.stage(once=True))

    def tile(self, count: int, first: tirx.Expr, group: tirx.Expr) -> None:
        """`count` rows from `first`."""

        def read(i: int, k: Index, known: int) -> tirx.Expr:
            row = first + i
            return self.left[row, k] if known == 1 else load_vector(self.left, row, k, count=known)

        self.tiles.tile(
            count, group, lambda panel: panel, read, lambda value, i, c: self.tail.write(value, first + i, c)
        )


def _whole(value: int, step: int) -> int:
    return -(-value // step) * step


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
