"""A matrix product of bytes on AMX: blocks of 32 rows x 32 columns, summed in four tiles, then the fused tail."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from . import amx
from .amx import BLOCK, COLS, ROW, ROWS, SIDE, SUMS, Steps
from .builder import Builder
from .dot import QUAD
from .gemm_tasks import known_rows, rows_a_task
from .registry import Call
from .stage import Stage
from .tails import MatrixTail, unravel
from .tensor import Index, Tensor, simplify
from .tiles import Tile, chunks

UNROLLED = 4  # steps of a reduction written out rather than looped over


def amx_product(
    call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray],
    depth: int, cols: int, key: str,
) -> list[Stage] | None:  # fmt: skip
    """The stage of `left` (bytes, seen as [rows, depth]) times constant int8 weights; None where that does not pay.

    matrix: gives the weights as [depth, cols]; key: names them, equal keys for equal bytes.
    """
    steps = amx.steps_of(depth)
    if target.tiles != "amx" or steps is None or not pays(rows, cols, depth):
        return None
    return [_Product(call, target, kernel, rows, left, matrix, cols, key, steps).stage()]


def pays(rows: Index, cols: int, depth: int) -> bool:
    """Whether AMX beats multiplying in vector registers."""
    return True


class _Product:
    """One product under construction; the walk as in gemm_kernel.py."""

    def __init__(
        self, call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray],
        cols: int, key: str, steps: Steps,
    ) -> None:  # fmt: skip
        self.rows, self.steps, self.signed = rows, steps, left.dtype == "int8"
        self.groups = -(-cols // BLOCK)
        self.last_cols = cols - (self.groups - 1) * BLOCK
        packed = amx.tiles_const(left.name, matrix, cols, steps, key)
        weights, known = math.prod(packed.shape), known_rows(rows)
        if weights <= 0.6 * target.l1_bytes:
            self.walk = "rows"
        else:
            self.walk = "panels" if known * steps.depth <= target.l2_bytes // 2 else "blocks"
        shared = 1 if self.walk == "rows" else self.groups
        tile = Tile(BLOCK, 2, SIDE)
        self.block = call.config.get("mc") or rows_a_task(known, tile, -(-steps.depth // QUAD), shared, target)
        kind = "s8s8" if self.signed else "u8s8"
        self.b = b = Builder(f"{kernel}_{kind}_{BLOCK}x{BLOCK}x{steps.width}_amx")
        self.left = b.arg(left, (rows, steps.depth))
        self.weights = b.arg(packed, (weights,))
        self.table = b.arg(amx.configurations(steps.width))
        self.tail = MatrixTail(b, call)
        self.sums = b.local((BLOCK, BLOCK), "int32")

    def stage(self) -> Stage:
        """The kernel."""
        b, blocks = self.b, simplify((self.rows + (self.block - 1)) // self.block)
        shared = 1 if self.walk == "rows" else self.groups
        with b:
            amx.configure(b, self.table, BLOCK)
            with b.parallel(simplify(blocks * shared)) as p:
                if self.walk == "rows":
                    self.row_blocks(b.let(p * self.block), self.all_groups)
                else:
                    if self.walk == "panels":
                        group, block = unravel(b, p, [self.groups, blocks])
                    else:
                        block, group = unravel(b, p, [blocks, self.groups])
                    self.row_blocks(b.let(block * self.block), lambda count, first: self.any_group(count, first, group))
            amx.release(b)
        return b.stage()

    def row_blocks(self, at: tirx.Expr, emit: Callable[[Index, tirx.Expr], None]) -> None:
        """Calls `emit(count, first)` for rows [at, min(at + block, rows)), 32 at a time, and for the rest."""
        b = self.b
        if isinstance(self.rows, int) and self.rows % self.block == 0:
            with b.serial(self.block // BLOCK, "tile") as t:
                emit(BLOCK, b.let(at + t * BLOCK))
            return
        count = b.let(tirx.min(tirx.const(self.block, "int64"), self.rows - at))
        whole = b.let(count // BLOCK)
        with b.serial(whole, "tile") as t:
            emit(BLOCK, b.let(at + t * BLOCK))
        if isinstance(self.rows, int) and self.rows % BLOCK == 0:
            return
        rest = b.let(count - whole * BLOCK) if not isinstance(self.rows, int) else self.rows % BLOCK
        with b.when(whole * BLOCK < count):
            first = b.let(at + whole * BLOCK)
            amx.configure(b, self.table, rest)
            emit(rest, first)
            amx.configure(b, self.table, BLOCK)

    def all_groups(self, count: Index, first: tirx.Expr) -> None:
        """`count` rows from `first`, every column."""
        whole = self.groups if self.last_cols == BLOCK else self.groups - 1
        if whole:
            with self.b.serial(whole, "group") as group:
                self.product(count, first, group, BLOCK)
        if whole < self.groups:
            self.product(count, first, tirx.const(whole, "int64"), self.last_cols)

    def any_group(self, count: Index, first: tirx.Expr, group: tirx.Expr) -> None:
        """`count` rows from `first`, the columns of a group."""
        if self.last_cols == BLOCK or self.groups == 1:
            self.product(count, first, group, self.last_cols)
            return
        with self.b.when(group < self.groups - 1):
            self.product(count, first, group, BLOCK)
        with self.b.otherwise():
            self.product(count, first, group, self.last_cols)

    def product(self, count: Index, first: tirx.Expr, group: tirx.Expr, width: int) -> None:
        """One block: `count` rows from `first`, the first `width` columns of a group."""
        b = self.b
        wide = 2 if width > SIDE else 1
        if isinstance(count, int):
            self.reduce(2 if count > SIDE else 1, wide, first, group)
        else:
            with b.when(count > SIDE):
                self.reduce(2, wide, first, group)
            with b.otherwise():
                self.reduce(1, wide, first, group)
        with b.serial(count, "i") as i:
            for offset, lanes in chunks(width, SIDE):
                with b.vector(lanes) as v:
                    col = v + offset if offset else v
                    self.tail.write(self.sums[i, col], first + i, group * BLOCK + col)

    def reduce(self, tall: int, wide: int, first: tirx.Expr, group: tirx.Expr) -> None:
        """sums = the rows from `first` times the columns of a group; `tall` by `wide` tiles."""
        b, steps = self.b, self.steps
        for i in range(tall):
            for j in range(wide):
                amx.zero(b, SUMS[2 * i + j])
        panel = steps.count * steps.width * SIDE  # bytes of 16 columns
        base = b.let(group * (2 * panel))

        def step(start: Index, number: Index) -> None:
            for i in range(tall):
                amx.load(b, ROWS[i], tirx.address_of(self.left[first + i * SIDE, start]), steps.depth)
                for j in range(wide):
                    if i == 0:
                        at = base + (number * (steps.width * SIDE) + j * panel)
                        amx.load(b, COLS[j], tirx.address_of(self.weights[at]), ROW)
                    amx.multiply(b, SUMS[2 * i + j], ROWS[i], COLS[j], self.signed)

        looped = steps.count if steps.even else steps.count - 1
        if looped > UNROLLED:
            with b.serial(looped, "k") as k:
                step(k * steps.width, k)
        else:
            for i in range(looped):
                step(i * steps.width, i)
        if looped < steps.count:
            step(steps.last, steps.count - 1)
        for i in range(tall):
            for j in range(wide):
                amx.store(b, SUMS[2 * i + j], tirx.address_of(self.sums[i * SIDE, j * SIDE]), BLOCK * 4)
