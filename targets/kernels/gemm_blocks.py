"""Products of rows quantized in blocks of 32 (quantize_rows.py) with constant weights as GGUF's types have them.

Sums of codes in int32 for each block, then the scales of row and column, added up in float32. Codes are unsigned; what
a zero point takes off is a start of the sums, a multiple of the sum of the row's codes, and a minimum adds its own
multiple of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm import tirx

from targets.target import Target

from .block_codes import QUADS, STEP, SUPER, BlockCodes
from .builder import Builder
from .code_dot import code_dot
from .dot import QUAD, load_vector, load_words, store_vector
from .gemm_tasks import known_rows, row_tiles
from .nibbles import splat
from .panels import TASK_BYTES
from .planes import reader_of
from .registry import Call, template
from .stage import Stage
from .tails import MatrixTail, unravel
from .tensor import product, same_dim, simplify
from .tiles import Tile
from .tiles_emit import store_tile

SINGLE = 4  # panels of a task
FEW = 8  # rows up to which each number has code of its own
Case: TypeAlias = tuple[tirx.Expr | bool, Callable[[], None]]
Shared: TypeAlias = list[tuple[tirx.Expr, tirx.Expr | None]]


@template("edgert.GemmBlocks")
def gemm_blocks(call: Call, target: Target) -> list[Stage] | None:
    """int8 [..., M, K], scales [..., M, K/32], sums x constant codes [N, K]: see compiler/ops/block_codes.py."""
    weights = BlockCodes.of(call.attrs, call.inputs[3:8], target)
    if weights is None or product(call.need(0).shape) == 0:
        return None
    from .gemm_blocks_amx import amx_blocks

    return amx_blocks(call, target, weights) or [GemmBlocks(call, target, weights).stage()]


class GemmBlocks:
    """One product under construction."""

    def __init__(self, call: Call, target: Target, weights: BlockCodes, b: Builder | None = None) -> None:
        """b: the kernel under construction that this product is a part of."""
        self.call, self.target, self.w, self.lanes = call, target, weights, weights.lanes
        self.rows = product(call.need(0).shape[:-1])
        self.dot = code_dot(target, self.lanes, weights.bits)
        many = target.registers >= 32
        # quads unpacked at a time: their codes, the rows' sums in float and what a row needs are to stay in registers
        self.held = (QUADS if many else QUADS // 2) if self.dot.registers == 1 else min(4, self.dot.most)
        self.most = min(self.dot.most, self.held, QUADS // weights.parts)
        self.tile = (16 if many else 4) // (1 if self.dot.registers == 1 else 2)
        if isinstance(self.rows, int):
            self.tile = max(1, min(self.rows, self.tile))
        self.b = b or Builder(f"gemm_s8{weights.kind}_{self.tile}x1_{target.isa}")

    def stage(self) -> Stage:
        """The kernel."""
        self.operands()
        with self.b:
            self.walk()
        return self.b.stage()

    def operands(self) -> None:
        """What the kernel reads and writes."""
        b, w = self.b, self.w
        self.left = b.arg(self.call.need(0), (self.rows, w.depth))
        self.left_scale = b.arg(self.call.need(1), (self.rows, w.blocks))
        sums = self.call.need(2)
        self.fine = not same_dim(sums.shape[-1], w.blocks)  # sums of 16 neighbours, not of 32
        self.offset = b.arg(sums, (self.rows, w.blocks * (2 if self.fine else 1)))
        self.scaled = sums.dtype == "float32"  # the sums times the row's scale, not the codes' times -8
        self.reader, self.tail = reader_of(b, w), MatrixTail(b, self.call)

    def walk(self) -> None:
        """Emits the parallel loop."""
        b, rows, w, tile = self.b, self.rows, self.w, self.tile
        fit = max(1, self.target.l2_bytes // 2 // (w.depth * tile))
        band = min(fit, -(-known_rows(rows) // tile)) * tile
        bands = simplify((rows + (band - 1)) // band)
        grain = max(1, TASK_BYTES // (w.panel_bytes * SINGLE)) if rows == 1 else 1
        self.reader.spans(self.groups, SINGLE)
        with b.parallel(simplify(self.groups * bands), grain) as p:
            group, part = unravel(b, p, [self.groups, bands])

            once = isinstance(rows, int) and rows <= tile

            def tiles() -> None:
                first = b.let(part * band)

                def one(panel: tirx.Expr, width: int) -> None:
                    row_tiles(b, rows, first, band, tile, lambda n, m: self.emit(n, m, panel, width, once))

                self.panels(group, one)

            if isinstance(rows, int):
                tiles()
            else:
                self.by_rows([*self.few(group, min(tile, FEW)), (True, tiles)])

    @property
    def groups(self) -> int:
        """Groups of panels."""
        return -(-self.w.panels // SINGLE)

    def few(self, group: tirx.Expr, most: int) -> list[Case]:
        """Cases of 1 to `most` rows, of a number known only at run time: each unpacks the weights once."""

        zero = tirx.const(0, "int64")

        def rows(count: int) -> None:
            self.panels(group, lambda panel, width: self.emit(count, zero, panel, width, True))

        return [(tirx.EQ(self.rows, tirx.const(n, "int64")), lambda n=n: rows(n)) for n in range(1, most + 1)]  # type: ignore[misc]

    def by_rows(self, cases: list[Case]) -> None:
        """The first case that holds."""
        (condition, emit), *others = [case for case in cases if case[0] is not False]
        if condition is True:
            emit()
            return
        with self.b.when(condition):
            emit()
        if others:
            with self.b.otherwise():
                self.by_rows(others)

    def panels(self, group: tirx.Expr, each: Callable[[tirx.Expr, int], None]) -> None:
        """each(panel, columns of it) for the panels of a group."""
        b, w = self.b, self.w
        whole, rest = divmod(w.cols, self.lanes)
        if whole:
            start = b.let(group * SINGLE)
            with b.serial(b.let(tirx.min(tirx.const(SINGLE, "int64"), whole - start)), "panel") as p:
                each(b.let(start + p), self.lanes)
        if rest:
            with b.when(tirx.EQ(group, tirx.const(self.groups - 1, "int64"))):
                each(tirx.const(whole, "int64"), rest)

    def emit(self, count: int, first: tirx.Expr, panel: tirx.Expr, width: int, ahead: bool) -> None:
        """`count` rows from `first` times a panel, of which `width` columns are stored.

        ahead: asks for weights before their turn, which pays where each is met once.
        """
        b, lanes = self.b, self.lanes
        total = b.local((count, lanes), "float32")
        for i in range(count):
            store_vector(b, total, splat(0.0, "float32", lanes), _int(i), _int(0))
        self.sum(total, count, first, panel, ahead)
        tile = Tile(count, 1, lanes)
        store_tile(b, total, count, width, tile, lambda v, i, c: self.tail.write(v, first + i, panel * lanes + c))

    def sum(self, total: tirx.Var, count: int, first: tirx.Expr, panel: tirx.Expr, ahead: bool) -> None:
        """total += `count` rows from `first` times the columns of a panel."""
        b, w = self.b, self.w
        ask = self.reader.ahead(panel) if ahead else None

        def step(block: tirx.Expr, factors: dict[str, tirx.Expr]) -> None:
            if ask is not None:
                ask(block)
            self.block(total, count, first, panel, block, factors)

        if w.super_scale is None:
            with b.serial(tirx.const(w.blocks, "int64"), "block") as block:
                step(block, {})
            return
        with b.serial(tirx.const(w.depth // SUPER, "int64"), "super") as s:
            factors = self.reader.super_factors(panel, s)
            with b.serial(tirx.const(SUPER // STEP, "int64"), "block") as i:
                step(b.let(s * (SUPER // STEP) + i), factors)

    def factor(self, name: str, panel: tirx.Expr, row: tirx.Expr, factors: dict[str, tirx.Expr]) -> tirx.Expr:
        """The scales or minima of one block."""
        value = self.reader.floats(name, panel, row)
        more = factors.get(f"super {name}")
        return value if more is None else self.b.let(value * more)  # 11 bits times 8: exact

    def block(
        self, total: tirx.Var, count: int, first: tirx.Expr, panel: tirx.Expr, block: tirx.Expr,
        factors: dict[str, tirx.Expr],
    ) -> None:  # fmt: skip
        """total += 32 steps of the depth."""
        b, each = self.b, QUADS // self.w.parts
        shared = self.shared(panel, block, factors)
        sums: list[dict[int, tirx.Expr]] = [{} for _ in range(count)]
        for start in range(0, QUADS, self.held):
            unpacked = self.reader.codes(panel, block, start, self.held)
            codes = [tuple(b.let(v) for v in self.dot.prepare(code)) for code in unpacked]
            for i in range(count):
                at = block * STEP + start * QUAD
                words = load_words(b, self.target, self.left, self.held, first + i, at)
                for low in range(0, self.held, self.most):
                    part, several = (start + low) // each, slice(low, low + self.most)
                    acc = sums[i].get(part)
                    acc = self._begin(first + i, block, part) if acc is None else acc
                    sums[i][part] = b.let(self.dot.add(acc, codes[several], words[several]))
                if start + self.held == QUADS:
                    self.add(total, i, first + i, block, list(sums[i].values()), shared)

    def shared(self, panel: tirx.Expr, block: tirx.Expr, factors: dict[str, tirx.Expr]) -> Shared:
        """What all rows multiply sums over 32 steps with: for each part its scales, and its minima."""
        b, w = self.b, self.w
        made = []
        for part in range(w.parts):
            row = block * w.parts + part
            scale, minimum = self.factor("scale", panel, row, factors), None
            if w.minimum is not None:  # with a super minimum it is subtracted; integer sums are of units of -1/8
                by = (1.0 if w.super_minimum is None else -1.0) * (1.0 if self.scaled else -0.125)
                minimum = self.factor("minimum", panel, row, factors)
                minimum = minimum if by == 1.0 else b.let(minimum * splat(by, "float32", self.lanes))
            made.append((scale, minimum))
        return made

    def add(
        self, total: tirx.Var, i: int, row: tirx.Expr, block: tirx.Expr, sums: list[tirx.Expr], shared: Shared
    ) -> None:
        """total[i] += the integer sums of each part, scaled, and the minima."""
        lanes = self.lanes
        value: tirx.Expr | None = None
        for part, (scale, minimum) in enumerate(shared):
            term = sums[part].astype(f"float32x{lanes}") * scale
            if minimum is not None and not self.scaled:
                term = term + self._offset(row, block, part).astype(f"float32x{lanes}") * minimum
            value = term if value is None else value + term
        assert value is not None
        x_scale = tirx.Broadcast(self.left_scale[row, block], lanes)
        new = load_vector(total, _int(i), _int(0), count=lanes) + value * x_scale
        for part, (_, minimum) in enumerate(shared):
            if minimum is not None and self.scaled:
                new = new + self._offset(row, block, part) * minimum
        store_vector(self.b, total, new, _int(i), _int(0))

    def _begin(self, row: tirx.Expr, block: tirx.Expr, part: int) -> tirx.Expr:
        times = (self.w.zero - self.dot.bias) // 8  # zero points are multiples of 8
        if times == 0:
            return splat(0, "int32", self.lanes)
        offset = self._offset(row, block, part)
        return offset if times == 1 else offset * splat(times, "int32", self.lanes)

    def _offset(self, row: tirx.Expr, block: tirx.Expr, part: int) -> tirx.Expr:
        """The sum of a row's codes in a block, or in one of two halves, as it is given, in every lane."""
        at, lanes = block * (2 if self.fine else 1), self.lanes
        if self.fine and self.w.parts == 1:
            return tirx.Broadcast(self.offset[row, at] + self.offset[row, at + 1], lanes)
        return tirx.Broadcast(self.offset[row, at + part], lanes)


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")
