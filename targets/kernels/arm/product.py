"""Rows times constant weights through the inner loops of micro.py, with the fused tail.

A task takes blocks of rows through a group of panels: of eight rows a piece of the depth is packed on the stack, all
panels of the group are multiplied with it, and at last the tail reads the sums. Packing costs about half a panel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from ..aligned import aligned_local
from ..builder import Builder
from ..dot import load_vector, store_vector
from ..gemm_tasks import known_rows, row_tiles, rows_a_task
from ..registry import Call
from ..stage import LLVM, Const, Leaf, Stage
from ..tails import MatrixTail, unravel
from ..tensor import Index, Tensor, as_expr, product, simplify
from ..tiles import Tile, chunks
from .micro import ROWS, Micro, function, micro_for
from .packing import moved_const, pack_rows, weights_const

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
    if known_rows(rows) < LEAST_ROWS or cols < LEAST_COLS or "mr" in call.config:
        return None
    way = micro_for(target, left.dtype, depth, cols, matrix)
    if way is None:
        return None
    const = weights_const(left.name, matrix, depth, cols, way, key)
    moved = moved_const(left.name, matrix, cols, key) if way.moved else None
    made = Product(call, target, kernel, rows, left, const, way, 1, depth, cols, moved)

    def source(_: int, first: tirx.Expr) -> Callable[[tirx.Expr], Read]:
        return lambda run: lambda i, k, known: made.load((first + i) * depth + k, known)

    return [made.stage(source)]


class Tiles:
    """Tiles of eight rows and a group of panels: packing, multiplying, and where the tail finds the sums.

    A row is `runs` runs of `depth` neighbours in memory.
    """

    def __init__(
        self, b: Builder, way: Micro, weights: tirx.Var, runs: int, depth: int, cols: int, target: Target
    ) -> None:
        self.b, self.way, self.weights, self.runs, self.depth, self.target = b, way, weights, runs, depth, target
        self.steps = way.steps(depth)  # of a run
        self.panels = -(-cols // way.width)
        self.last = cols - (self.panels - 1) * way.width
        room = ROOM // (ROWS * way.row_bytes)
        most = min(way.most_steps or room, room)
        self.at_once = runs * self.steps <= room
        self.piece = most  # steps that are summed at once; of a run, where not all runs are packed at once
        if not self.at_once:
            self.piece = min(self.steps, _whole(-(-self.steps // -(-self.steps // most)), way.together))
        self.group = min(self.panels, GROUP // way.width)
        self.groups = -(-self.panels // self.group)
        self.called: dict[str, str] = {}

    def room(self) -> None:
        """The tile's memory; once a task."""
        steps = self.runs * self.steps if self.at_once else self.piece
        self.sums = aligned_local(self.b, (self.group, self.way.width * ROWS), self.way.sums)
        self.packed = aligned_local(self.b, (steps * ROWS * self.way.parts,), self.way.unit)

    def tile(self, rows: int, group: tirx.Expr, source: Callable[[tirx.Expr], Read],
             write: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], None]) -> None:  # fmt: skip
        """`rows` rows times a group of panels; write(sum, row, column) is emitted for each sum.

        source: how elements of a run of the rows are read.
        """
        b = self.b
        first = b.let(group * self.group)
        count: Index = self.group
        if self.panels % self.group:
            count = b.let(tirx.min(_int(self.group), self.panels - first))
        if self.at_once:
            with b.serial(self.runs, "run") as run:
                run = as_expr(run, "int64")
                base = b.let(run * self.steps)
                pack_rows(b, self.packed, base, self.way, rows, _int(0), self.steps, self.depth, source(run))
            steps = self.runs * self.steps
            if steps <= self.piece:
                with b.serial(count, "panel") as panel:
                    self.multiply(rows, panel, first, _int(0), _int(0), _int(steps), True)
            else:
                self.clear(count)
                with b.serial(count, "panel") as panel, b.serial(-(-steps // self.piece), "piece") as piece:
                    start = b.let(as_expr(piece, "int64") * self.piece)
                    here = b.let(tirx.min(_int(self.piece), steps - start))
                    self.multiply(rows, panel, first, start, start, here, False)
        else:
            self.clear(count)
            with b.serial(self.runs, "run") as run, b.serial(-(-self.steps // self.piece), "piece") as piece:
                run, start = as_expr(run, "int64"), b.let(as_expr(piece, "int64") * self.piece)
                steps = b.let(tirx.min(_int(self.piece), self.steps - start))
                pack_rows(b, self.packed, _int(0), self.way, rows, start, steps, self.depth, source(run))
                with b.serial(count, "panel") as panel:
                    self.multiply(rows, panel, first, run * self.steps + start, _int(0), steps, False)
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

    def clear(self, count: Index) -> None:
        """Zeros for the sums of `count` panels."""
        zeros = tirx.Broadcast(tirx.const(0, self.way.sums), 4)
        with self.b.serial(count, "panel") as panel, self.b.serial(self.way.width * ROWS // 4, "i") as i:
            store_vector(self.b, self.sums, zeros, panel, i * 4)

    def multiply(
        self, rows: int, panel: tirx.Expr, first: tirx.Expr, start: tirx.Expr, packed: tirx.Expr, steps: tirx.Expr,
        clear: bool,
    ) -> None:  # fmt: skip
        """Calls the inner loop for a panel of the group that begins with panel `first`, from step `start` of the
        weights and step `packed` of the rows on."""
        name, text = function(self.way, rows, clear, self.target)
        self.called[name] = text
        operands = (
            self.sums[panel, 0],
            self.packed[packed * (ROWS * self.way.parts)],
            self.weights[first + panel, start, 0],
        )
        pointers = [tirx.address_of(operand) for operand in operands]
        self.b.emit(tirx.Evaluate(tirx.call_extern("void", name, *pointers, steps)))

    def finished(self, stage: Stage) -> Stage:
        """The stage with the functions that it calls."""
        stage.func = stage.func.with_attr(LLVM, "\n".join(self.called.values()))
        return stage


class Product:
    """One product under construction; `source` says how rows are read: (first row, run) to a reader of elements."""

    def __init__(
        self, call: Call, target: Target, kernel: str, rows: Index, left: Leaf, const: Const, way: Micro, runs: int,
        depth: int, cols: int, moved: Const | None = None,
    ) -> None:  # fmt: skip
        self.rows, self.way = rows, way
        self.b = Builder(f"{kernel}_{way.name}_{ROWS}x{way.width}_{target.isa}")
        self.left = self.b.arg(left, (product(left.shape),))
        self.tiles = Tiles(self.b, way, self.b.arg(const), runs, depth, cols, target)
        self.moved = None if moved is None else self.b.arg(moved)
        self.tail = MatrixTail(self.b, call)
        words = runs * self.tiles.steps * way.row_bytes // 4
        self.block = call.config.get("mc") or rows_a_task(
            known_rows(rows), Tile(ROWS, way.width // 4, 4), words, self.tiles.groups, target
        )

    def stage(self, source: Callable[[int, tirx.Expr], Callable[[tirx.Expr], Read]]) -> Stage:
        """Tasks: groups of panels, and for each all blocks of rows, so that a group's weights stay in L2."""
        b, tiles = self.b, self.tiles
        blocks = simplify((self.rows + (self.block - 1)) // self.block)

        def tile(count: int, first: tirx.Expr) -> None:
            def write(value: tirx.Expr, i: tirx.Expr, column: tirx.Expr) -> None:
                self.tail.write(value if self.moved is None else value + self.moved[column], first + i, column)

            tiles.tile(count, group, source(count, first), write)

        with b, b.parallel(simplify(blocks * tiles.groups)) as p:
            tiles.room()
            group, block = unravel(b, p, [tiles.groups, blocks])
            row_tiles(b, self.rows, b.let(block * self.block), self.block, ROWS, tile)
        return tiles.finished(b.stage(once=True))

    def load(self, at: tirx.Expr, known: int) -> tirx.Expr:
        """`known` neighbours of the left side."""
        return self.left[at] if known == 1 else load_vector(self.left, at, count=known)


def _whole(value: int, step: int) -> int:
    return -(-value // step) * step


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
