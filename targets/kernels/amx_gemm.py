"""A matrix product of bytes on AMX: blocks of 32 rows x 32 columns, summed in four tiles, then the fused tail.

The tail costs about as much as the product but uses other ports. So a task is a sequence of blocks, and the tail of
each is spread over the reduction of the next one: out-of-order execution alone does not reach that far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from targets.target import Target

from . import amx
from .amx import BLOCK, COLS, ROW, ROWS, SIDE, SUMS, Steps
from .amx_tail import Guard, tail_of
from .builder import Builder
from .gemm_tasks import known_rows
from .registry import Call
from .stage import Stage
from .tails import unravel
from .tensor import Index, Tensor, as_expr, simplify
from .tiles_emit import prefetch

UNROLLED = 8  # steps of a reduction written out rather than looped over
LEAST_ROWS, LEAST_WORK = 4, 150_000


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
    """Whether AMX beats multiplying in vector registers: not for vectors, nor where its 300 ns of set-up count.

    Measured beside AVX-512 VNNI: even at 4 rows of a long product, and at some 150,000 multiplications of a small one.
    """
    count = known_rows(rows)
    return count >= LEAST_ROWS and count * cols * depth >= LEAST_WORK


@dataclass(frozen=True)
class Share:
    """What one task takes: so many blocks of rows, of so many groups of columns."""

    blocks: int
    groups: int


def share_of(blocks: int, groups: int, fit: int, in_l1: bool) -> Share:
    """An even share for two and four threads, in long sequences.

    fit: blocks of rows whose input stays in L2; in_l1: the weights stay in L1, else each is to be read once.
    """

    def cost(share: Share) -> float:
        tasks = -(-blocks // share.blocks) * -(-groups // share.groups)
        long = share.blocks * share.groups
        two, four = (-(-tasks // n) * n * long / (blocks * groups) for n in (2, 4))
        return (4 * two + four) * (1 + 0.3 / long) + tasks * 1e-2

    if in_l1:  # whole rows are written, and the input is read once
        return min((Share(n, groups) for n in range(1, min(blocks, fit, 64) + 1)), key=cost)
    if blocks <= fit:
        return min((Share(blocks, n) for n in range(1, groups + 1)), key=cost)
    return min((Share(n, g) for n in range(1, fit + 1) for g in range(1, groups + 1)), key=cost)


class _Product:
    """One product under construction."""

    def __init__(
        self, call: Call, target: Target, kernel: str, rows: Index, left: Tensor, matrix: Callable[[], np.ndarray],
        cols: int, key: str, steps: Steps,
    ) -> None:  # fmt: skip
        self.rows, self.steps, self.signed = rows, steps, left.dtype == "int8"
        self.height = min(rows, BLOCK) if isinstance(rows, int) else BLOCK  # rows of a block
        self.whole, self.rest = divmod(cols, BLOCK)  # groups of 32 columns, and columns of a last, narrower one
        self.blocks = simplify((rows + (BLOCK - 1)) // BLOCK)
        packed = amx.tiles_const(left.name, matrix, cols, steps, key)
        size, known = math.prod(packed.shape), -(-known_rows(rows) // BLOCK)
        in_l1 = size <= 0.6 * target.l1_bytes
        fit = max(1, target.l2_bytes // 2 // (BLOCK * steps.depth))
        self.share = share_of(known, max(1, self.whole), fit, in_l1)
        self.by_columns = known <= fit  # the input stays in L2: each group of columns meets all rows
        self.ahead = 0 if in_l1 else -(-steps.width * BLOCK // (ROW * known))  # lines to prefetch a step
        self.b = b = Builder(f"{kernel}_{'s8s8' if self.signed else 'u8s8'}_32x32x{steps.width}_amx")
        self.left = b.arg(left, (rows, steps.depth))
        self.weights = b.arg(packed, (size,))
        self.table = b.arg(amx.configurations(steps.width))
        self.sums = amx.sums(b)
        self.tail = tail_of(b, call, self.sums, steps.depth, cols)

    def stage(self) -> Stage:
        """The kernel."""
        b, share = self.b, self.share
        bands = simplify((self.blocks + (share.blocks - 1)) // share.blocks)
        columns = -(-self.whole // share.groups) + (self.rest > 0)
        with b:
            height = self.height if isinstance(self.rows, int) else tirx.min(self.rows, tirx.const(BLOCK, "int64"))
            amx.configure(b, self.table, height)
            with b.parallel(simplify(bands * columns)) as p:
                if self.by_columns:
                    column, band = unravel(b, p, [columns, bands])
                else:
                    band, column = unravel(b, p, [bands, columns])
                block = b.let(band * share.blocks)
                blocks = self.limited(share.blocks, self.blocks, block)
                group = b.let(column * share.groups)
                if not self.whole:
                    self.task(block, blocks, tirx.const(0, "int64"), 1, self.rest)
                elif not self.rest:
                    self.task(block, blocks, group, self.limited(share.groups, self.whole, group), BLOCK)
                else:
                    with b.when(column < columns - 1):
                        self.task(block, blocks, group, self.limited(share.groups, self.whole, group), BLOCK)
                    with b.otherwise():
                        self.task(block, blocks, tirx.const(self.whole, "int64"), 1, self.rest)
            amx.release(b)
        return b.stage()

    def limited(self, count: int, extent: Index, start: tirx.Expr) -> Index:
        """How many of `count` from `start` on are below `extent`."""
        if isinstance(extent, int) and extent % count == 0:
            return count
        return self.b.let(tirx.min(tirx.const(count, "int64"), extent - start))

    def task(self, block: tirx.Expr, blocks: Index, group: tirx.Expr, groups: Index, width: int) -> None:
        """Blocks of rows times groups of columns, of which each is `width` wide."""
        if isinstance(self.rows, int):
            self.sequence(block, blocks, group, groups, width)
            return
        with self.b.when(self.rows >= BLOCK):
            self.sequence(block, blocks, group, groups, width)
        with self.b.otherwise(), self.b.serial(groups, "group") as g:
            self.few_rows(self.b.let(group + g), width)

    def sequence(self, block: tirx.Expr, blocks: Index, group: tirx.Expr, groups: Index, width: int) -> None:
        """All blocks of a task, the tail of each within the next one."""
        b = self.b

        def place(i: Index) -> tuple[tirx.Expr, tirx.Expr, Index]:
            """Where block i of the sequence starts, its group, and how many of its rows another block stores."""
            size, at = as_expr(blocks, "int64"), as_expr(i, "int64")
            first = b.let((block + tirx.truncmod(at, size)) * BLOCK)
            column = b.let(group + tirx.truncdiv(at, size))
            if isinstance(self.rows, int) and (self.rows % BLOCK == 0 or self.rows < BLOCK):
                return first, column, 0
            # the last block starts early, so that it is whole; in place, what is stored twice might be added twice
            start = b.let(tirx.min(first, as_expr(self.rows - BLOCK, "int64")))
            return start, column, b.let(first - start)

        count = simplify(blocks * groups)
        self.product(place(0), width, None)
        if not (isinstance(count, int) and count == 1):
            with b.serial(simplify(count - 1), "block", 1) as i:
                self.product(place(i), width, place(as_expr(i, "int64") - 1))
        first, column, skip = place(simplify(count - 1))
        self.store(first, column, width, skip)

    def few_rows(self, group: tirx.Expr, width: int) -> None:
        """Fewer than 32 rows, known only at run time."""
        zero = tirx.const(0, "int64")
        with self.b.when(self.rows > SIDE):
            self.reduce(2, width, zero, group, lambda *_: None)
        with self.b.otherwise():
            self.reduce(1, width, zero, group, lambda *_: None)
        unit = self.tail.unit(width)
        with self.b.serial(self.b.let(tirx.truncdiv(self.rows + (unit - 1), tirx.const(unit, "int64"))), "i") as i:
            self.tail.rows(i * unit, unit, zero, group, width, lambda row: row < self.rows)

    def product(self, place: tuple, width: int, previous: tuple | None) -> None:
        """The sums of a block, and meanwhile the tail of the previous one."""

        def rows(start: Index, number: int) -> None:
            if previous is not None:
                first, group, skip = previous
                for u in range(0, number, self.tail.unit(width)):
                    self.tail.rows(start + u, min(self.tail.unit(width), number - u), first, group, width, _from(skip))

        self.reduce(2 if self.height > SIDE else 1, width, place[0], place[1], rows)

    def store(self, first: tirx.Expr, group: tirx.Expr, width: int, skip: Index) -> None:
        """The tail of a whole block, without its first `skip` rows."""
        unit = self.tail.unit(width)
        whole, rest = divmod(self.height, unit)
        begin = skip if isinstance(skip, int) else self.b.let(tirx.truncdiv(skip, tirx.const(unit, "int64")))
        with self.b.serial(whole - begin, "i", begin) as i:
            self.tail.rows(i * unit, unit, first, group, width, _from(skip))
        if rest:
            self.tail.rows(whole * unit, rest, first, group, width, _from(skip))

    def reduce(
        self, tall: int, width: int, first: tirx.Expr, group: tirx.Expr, rows: Callable[[Index, int], None]
    ) -> None:  # fmt: skip
        """sums = the rows from `first` times the columns of a group, `tall` tiles of them.

        rows(start, number): emitted between the steps until all rows of a block have had their turn.
        """
        b, steps, wide = self.b, self.steps, 2 if width > SIDE else 1
        for i in range(tall):
            for j in range(wide):
                amx.zero(b, SUMS[2 * i + j])
        panel = steps.count * steps.width * SIDE  # bytes of 16 columns
        base = b.let(group * (2 * panel))
        later = b.let(base + (2 * panel + first * (self.ahead * steps.count * ROW // BLOCK)))

        def step(start: Index, number: Index) -> None:
            for i in range(tall):
                amx.load(b, ROWS[i], tirx.address_of(self.left[first + i * SIDE, start]), steps.depth)
                for j in range(wide):
                    if i == 0:
                        at = base + (number * (steps.width * SIDE) + j * panel)
                        amx.load(b, COLS[j], tirx.address_of(self.weights[at]), ROW)
                    amx.multiply(b, SUMS[2 * i + j], ROWS[i], COLS[j], self.signed)
            for i in range(self.ahead):
                prefetch(b, self.weights, later + (number * (self.ahead * ROW) + i * ROW))

        height, count, done, unit = self.height, steps.count, 0, self.tail.unit(width)
        if count > UNROLLED:
            done = count if steps.even else count - 1
            few = max(unit, 4 if count <= 16 else 2 if count <= 32 else 1)  # rows between two steps
            turns = height // few
            with b.serial(turns, "k") as k:
                step(k * steps.width, k)
                rows(k * few, few)
            with b.serial(done - turns, "k", turns) as k:
                step(k * steps.width, k)
            rows(turns * few, height - turns * few)
        for i in range(done, count):
            step(i * steps.width if i * steps.width <= steps.last else steps.last, i)
            if not done:
                units = -(-height // unit)
                low, high = (min(units * n // count * unit, height) for n in (i, i + 1))
                rows(low, high - low)
        for i in range(tall):
            for j in range(wide):
                amx.store(b, SUMS[2 * i + j], tirx.address_of(self.sums[i * SIDE, j * SIDE]), BLOCK * 4)


def _from(skip: Index) -> Guard | None:
    return None if isinstance(skip, int) else lambda row: row >= skip
