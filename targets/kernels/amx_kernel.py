"""The walk of kernels on AMX: blocks of up to 32 rows x 32 columns, summed in four tiles, then the fused tail.

The tail costs about as much as a short product but uses other ports. So a task is a sequence of blocks, and the tail of
each is spread over the reduction of the next one: out-of-order execution alone does not reach that far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from targets.target import Target

from . import amx
from .amx import BLOCK, COLS, ROW, ROWS, SIDE, SUMS
from .amx_tail import Guard, tail_of
from .builder import Builder
from .registry import Call
from .stage import Const, Leaf, Stage
from .tails import unravel
from .tensor import Index, as_expr, simplify
from .tiles_emit import prefetch

UNROLLED = 8  # steps of a reduction written out rather than looped over


@dataclass(frozen=True)
class Place:
    """One block: its number, its columns, where its tiles begin on the left side, and its rows in the result."""

    block: tirx.Expr
    group: tirx.Expr
    origins: list[tirx.Expr]  # first byte of each tile of the left side
    row: Callable[[tirx.Expr], tirx.Expr]  # the result's row for one of the block
    guard: Guard | None  # which rows are stored; None: all


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


class AmxKernel:
    """One kernel under construction. A subclass says where blocks lie and where a step of the reduction reads."""

    tile: int  # rows of a tile
    tall: int  # tiles of a block below each other
    height: int  # rows of a block, which lie side by side in the sums
    stride: int  # bytes between the rows of a tile
    once = False  # whether no block stores again what another one stored

    def __init__(
        self, call: Call, target: Target, name: str, left: Leaf, packed: Const, cols: int, terms: int,
        blocks: Index, known: int, bytes_a_block: int,
    ) -> None:  # fmt: skip
        """packed: [panels, steps, width/4, 64]; terms: products in a sum; known: `blocks`, or what it is taken for."""
        self.blocks, self.signed = blocks, left.dtype == "int8"
        self.count, self.width = packed.shape[1], packed.shape[2] * amx.QUAD
        self.whole, self.rest = divmod(cols, BLOCK)  # groups of 32 columns, and columns of a last, narrower one
        size = math.prod(packed.shape)
        in_l1 = size <= 0.6 * target.l1_bytes
        fit = max(1, target.l2_bytes // 2 // bytes_a_block)
        self.share = share_of(known, max(1, self.whole), fit, in_l1)
        self.by_columns = known <= fit  # the input stays in L2: each group of columns meets all rows
        self.ahead = 0 if in_l1 else -(-self.width * BLOCK // (ROW * known))  # lines to prefetch a step
        self.b = b = Builder(f"{name}_{'s8s8' if self.signed else 'u8s8'}_{self.height}x32x{self.width}_amx")
        length: Index = 1
        for extent in left.shape:
            length = length * extent
        self.left = b.arg(left, (simplify(length),))
        self.packed, self.weights = packed, b.arg(packed, (size,))
        heights, self.entry = self.configuration()
        self.table = b.arg(amx.configurations(self.width, heights))
        self.sums = amx.sums(b)
        self.tail = tail_of(b, call, self.sums, terms, cols)

    # ---- what a subclass says ---------------------------------------------------------------------------------------
    def configuration(self) -> tuple[list[tuple[int, int]], Index]:
        """The rows of upper and lower tiles in each configuration, and which one to load."""
        return [(self.tile, self.tile)], 0

    def place(self, block: tirx.Expr, group: tirx.Expr) -> Place:
        """Block number `block` of the rows, in a group of columns."""
        raise NotImplementedError

    def offset(self, step: Index) -> Index:
        """Where a step reads, counted from a tile's origin."""
        raise NotImplementedError

    def task(self, block: tirx.Expr, blocks: Index, group: tirx.Expr, groups: Index, width: int) -> None:
        """Blocks of rows times groups of columns, of which each is `width` wide."""
        self.sequence(block, blocks, group, groups, width)

    # ---- the walk ---------------------------------------------------------------------------------------------------
    def stage(self) -> Stage:
        """The kernel."""
        b, share = self.b, self.share
        bands = simplify((self.blocks + (share.blocks - 1)) // share.blocks)
        columns = -(-self.whole // share.groups) + (self.rest > 0)
        if self.by_columns and (not self.rest or self.whole % share.groups == 0):
            b.reading.span(self.packed, columns, share.groups * 2 * self.count * self.width * SIDE)
        with b:
            amx.configure(b, self.table, self.entry)
            with b.parallel(simplify(bands * columns)) as p:
                if self.by_columns:
                    column, band = unravel(b, p, [columns, bands])
                else:
                    band, column = unravel(b, p, [bands, columns])
                block = b.let(band * share.blocks)
                blocks = self._limited(share.blocks, self.blocks, block)
                group = b.let(column * share.groups)
                if not self.whole:
                    self.task(block, blocks, tirx.const(0, "int64"), 1, self.rest)
                elif not self.rest:
                    self.task(block, blocks, group, self._limited(share.groups, self.whole, group), BLOCK)
                else:
                    with b.when(column < columns - 1):
                        self.task(block, blocks, group, self._limited(share.groups, self.whole, group), BLOCK)
                    with b.otherwise():
                        self.task(block, blocks, tirx.const(self.whole, "int64"), 1, self.rest)
            amx.release(b)
        return b.stage(once=self.once)

    def _limited(self, count: int, extent: Index, start: tirx.Expr) -> Index:
        """How many of `count` from `start` on are below `extent`."""
        if isinstance(extent, int) and extent % count == 0:
            return count
        return self.b.let(tirx.min(tirx.const(count, "int64"), extent - start))

    def sequence(self, block: tirx.Expr, blocks: Index, group: tirx.Expr, groups: Index, width: int) -> None:
        """All blocks of a task, the tail of each within the next one."""
        b = self.b

        def place(i: Index) -> Place:
            size, at = as_expr(blocks, "int64"), as_expr(i, "int64")
            return self.place(b.let(block + tirx.truncmod(at, size)), b.let(group + tirx.truncdiv(at, size)))

        count = simplify(blocks * groups)
        self.product(place(0), width, None)
        if not (isinstance(count, int) and count == 1):
            with b.serial(simplify(count - 1), "block", 1) as i:
                self.product(place(i), width, place(as_expr(i, "int64") - 1))
        last, unit = place(simplify(count - 1)), self.tail.unit(width)
        with b.serial(self.height // unit, "i") as i:
            self.tail.rows(i * unit, unit, last.row, last.group, width, last.guard)
        if self.height % unit:
            self.tail.rows(self.height // unit * unit, self.height % unit, last.row, last.group, width, last.guard)

    # ---- one block --------------------------------------------------------------------------------------------------
    def product(self, place: Place, width: int, previous: Place | None) -> None:
        """The sums of a block, and meanwhile the tail of the previous one."""
        unit = self.tail.unit(width)

        def rows(start: Index, number: int) -> None:
            if previous is not None:
                for u in range(0, number, unit):
                    valid = min(unit, number - u)
                    self.tail.rows(start + u, valid, previous.row, previous.group, width, previous.guard)

        self.reduce(place, self.tall, width, rows)

    def reduce(self, place: Place, tall: int, width: int, rows: Callable[[Index, int], None]) -> None:
        """sums = rows times the columns of a group, `tall` tiles of them.

        rows(start, number): emitted between the steps until all rows of a block have had their turn.
        """
        b, wide = self.b, 2 if width > SIDE else 1
        for i in range(tall):
            for j in range(wide):
                amx.zero(b, SUMS[2 * i + j])
        panel = self.count * self.width * SIDE  # bytes of 16 columns
        base = b.let(place.group * (2 * panel))
        later = b.let(base + (2 * panel + place.block * (self.ahead * self.count * ROW)))

        def step(number: Index) -> None:
            offset = self.offset(number)
            for i in range(tall):
                amx.load(b, ROWS[i], tirx.address_of(self.left[place.origins[i] + offset]), self.stride)
                for j in range(wide):
                    if i == 0:
                        at = base + (number * (self.width * SIDE) + j * panel)
                        amx.load(b, COLS[j], tirx.address_of(self.weights[at]), ROW)
                    amx.multiply(b, SUMS[2 * i + j], ROWS[i], COLS[j], self.signed)
            for i in range(self.ahead):
                prefetch(b, self.weights, later + (number * (self.ahead * ROW) + i * ROW))

        height, count, unit = self.height, self.count, self.tail.unit(width)
        if count <= UNROLLED:
            units = -(-height // unit)
            for i in range(count):
                step(i)
                low, high = (min(units * n // count * unit, height) for n in (i, i + 1))
                rows(low, high - low)
        else:
            few = max(unit, 4 if count <= 16 else 2 if count <= 32 else 1)  # rows between two steps
            turns = height // few
            with b.serial(turns, "k") as k:
                step(as_expr(k, "int64"))
                rows(k * few, few)
            with b.serial(count - turns, "k", turns) as k:
                step(as_expr(k, "int64"))
            rows(turns * few, height - turns * few)
        for i in range(tall):
            for j in range(wide):
                to = tirx.address_of(self.sums[i * self.tile, j * SIDE])
                amx.store(b, SUMS[2 * i + j], to, BLOCK * 4)
