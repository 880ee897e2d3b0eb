"""A matrix product of bytes on AMX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from . import amx
from .amx import BLOCK, SIDE, Steps
from .amx_kernel import AmxKernel, Place
from .gemm_tasks import known_rows
from .registry import Call
from .stage import Stage
from .tensor import Index, Tensor, as_expr, simplify

LEAST_ROWS, LEAST_WORK = 4, 150_000


def amx_product(
    call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray],
    depth: int, cols: int, key: str,
) -> list[Stage] | None:  # fmt: skip
    """The stage of `left` (bytes, seen as [rows, depth]) times constant int8 weights; None where that does not pay.

    matrix: gives the weights as [depth, cols]; key: names them, equal keys for equal bytes.
    """
    steps = amx.steps_of(depth)
    if target.tiles != "amx" or steps.beyond or not pays(known_rows(rows), cols, depth):
        return None
    return [_Product(call, target, kernel, rows, left, matrix, cols, key, steps).stage()]


def pays(rows: int, cols: int, depth: int) -> bool:
    """Whether AMX beats multiplying in vector registers: not for vectors, nor where its 300 ns of set-up count.

    Measured beside AVX-512 VNNI: even at 4 rows of a long product, and at some 150,000 multiplications of a small one.
    """
    return rows >= LEAST_ROWS and rows * cols * depth >= LEAST_WORK


class _Product(AmxKernel):
    once = True

    def __init__(
        self, call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray],
        cols: int, key: str, steps: Steps,
    ) -> None:  # fmt: skip
        self.rows, self.steps, self.stride = rows, steps, steps.depth
        self.height = min(rows, BLOCK) if isinstance(rows, int) else BLOCK
        self.tile, self.tall = SIDE, 2 if self.height > SIDE else 1
        packed = amx.tiles_const(left.name, matrix, cols, steps, 1, key)
        super().__init__(
            call, target, kernel, left, packed, cols, steps.depth, simplify((rows + (BLOCK - 1)) // BLOCK),
            -(-known_rows(rows) // BLOCK), BLOCK * steps.depth,
        )  # fmt: skip

    def configuration(self) -> tuple[list[tuple[int, int]], Index]:
        heights = amx.rows_up_to(BLOCK)
        if isinstance(self.rows, int):
            return heights[self.height - 1 : self.height], 0
        return heights, tirx.min(self.rows, tirx.const(BLOCK, "int64")) - 1

    def place(self, block: tirx.Expr, group: tirx.Expr) -> Place:
        first = start = self.b.let(block * BLOCK)
        guard = None
        if not isinstance(self.rows, int) or (self.rows % BLOCK and self.rows > BLOCK):
            # the last block starts early, so that it is whole; in place, what is stored twice might be added twice
            start = self.b.let(tirx.min(first, as_expr(self.rows - BLOCK, "int64")))
            skip = self.b.let(first - start)
            guard = lambda i: i >= skip  # noqa: E731
        origins = [self.b.let((start + i * SIDE) * self.steps.depth) for i in range(self.tall)]
        return Place(block, group, origins, lambda i: start + i, guard)

    def offset(self, step: Index) -> Index:
        return self.steps.start(step)

    def task(self, block: tirx.Expr, blocks: Index, group: tirx.Expr, groups: Index, width: int) -> None:
        if isinstance(self.rows, int):
            self.sequence(block, blocks, group, groups, width)
            return
        with self.b.when(self.rows >= BLOCK):
            self.sequence(block, blocks, group, groups, width)
        with self.b.otherwise(), self.b.serial(groups, "group") as g:
            self._few_rows(self.b.let(group + g), width)

    def _few_rows(self, group: tirx.Expr, width: int) -> None:
        """Fewer than 32 rows, known only at run time."""
        zero, rows, unit = tirx.const(0, "int64"), self.rows, self.tail.unit(width)
        origins = [zero, tirx.const(SIDE * self.steps.depth, "int64")]
        place = Place(zero, group, origins, lambda i: i, lambda i: i < rows)
        with self.b.when(rows > SIDE):
            self.reduce(place, 2, width, lambda *_: None)
        with self.b.otherwise():
            self.reduce(place, 1, width, lambda *_: None)
        with self.b.serial(self.b.let(tirx.truncdiv(rows + (unit - 1), tirx.const(unit, "int64"))), "i") as i:
            self.tail.rows(i * unit, unit, place.row, group, width, place.guard)
