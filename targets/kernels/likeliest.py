"""The likeliest column of a product with weights in two planes (planes.py), without reading all of the lower one.

Let a weight's code be 4u + l, l from 0 to 3 (or 8u + l, l to 7). The upper plane gives sums over u; since l is 1.5
but for at most 1.5, a product differs from the one with l = 1.5 by at most 1.5 * sum of scale * |row|. So one pass
over the upper plane bounds every product from above, for each panel its greatest is kept; the panel with the greatest
bound is multiplied exactly; then those panels whose bound reaches what is the greatest product so far. Exactly means:
by the code of gemm_blocks.py, to its bits, of which the first of the greatest wins. All is the result of rounding, so
bounds are widened: see SLACK.
"""

from __future__ import annotations

import math
from functools import partial

from tvm import tirx

from targets.target import Target

from .block_codes import STEP, BlockCodes, Reader
from .builder import Builder
from .chosen_rows import SERIAL, mark
from .code_rows import fold
from .dot import load_vector, store_vector
from .gemm_blocks import FEW, Case, GemmBlocks, Shared
from .nibbles import splat
from .planes import PlanesReader, upper_of
from .reading import Rows
from .registry import Call
from .stage import Stage, Temp
from .tensor import Index, as_expr

# Both ways to the product round each of `blocks` terms a few times and each of their sums once, by 2^-24 of at most
# 128 * scale * |row| summed up. 16 * (blocks + 8) such roundings are several times what happens:
SLACK = 16 * 2.0**-24 * 128


def likeliest(call: Call, weights: BlockCodes, target: Target) -> list[Stage]:
    """The stages of LikeliestBlocks (compiler/ops/likeliest.py)."""
    rows = call.need(0).shape[0]
    best = Temp((rows,), "float32", "best")
    factors = Temp((rows, weights.blocks), "float32", "factors"), Temp((rows, weights.blocks), "float32", "more")
    bounds = Temp((rows, weights.panels), "float32", "bounds")
    lists = [Temp((weights.panels,), "int32", name) for name in ("first", "others")]
    first, others = (_Exact(call, target, weights, bounds, chosen, best).stage() for chosen in lists)
    return [
        _begin(call, weights, factors, best, target),
        _Bounds(call, target, upper_of(weights), factors, bounds).stage(),
        _greatest(rows, weights.panels, bounds, lists[0], target),
        first,
        _reaching(rows, weights.panels, bounds, best, lists[1], target),
        others,
    ]


def _begin(call: Call, w: BlockCodes, factors: tuple[Temp, Temp], best: Temp, target: Target) -> Stage:
    """What sums over the upper plane's codes are multiplied with, and what is added, before the weights' scales; and no
    winner yet."""
    b = Builder(f"likeliest_begin_{target.isa}")
    rows = call.need(0).shape[0]
    codes, scales, sums = (b.arg(call.need(i)) for i in range(3))
    by, more = (b.arg(t) for t in factors)
    winner, value = b.arg(call.result), b.arg(best)
    middle_code = ((1 << w.planes) - 1) / 2  # which the lower bits differ from by at most as much
    half = middle_code + SLACK * (w.blocks + 8)
    with b, b.serial(rows, "row") as row:
        b.store(winner, row, tirx.const(-1, "int64"))
        b.store(value, row, tirx.const(-math.inf, "float32"))
        with b.serial(w.blocks, "block") as block:
            size = b.local((1,), "int32")
            b.store(size, 0, 0)
            with b.serial(STEP, "k") as k:
                b.store(size, 0, size[0] + tirx.abs(codes[row, block * STEP + k].astype("int32")))
            scale = b.let(scales[row, block])
            # given are the codes' sums times -8; 128 is the zero point
            middle = sums[row, block].astype("float32") * tirx.const((128 - middle_code) / 8, "float32")
            b.store(by, (row, block), scale * tirx.const(float(1 << w.planes), "float32"))
            b.store(more, (row, block), (middle + size[0].astype("float32") * tirx.const(half, "float32")) * scale)
    return b.stage()


class _Bounds(GemmBlocks):
    """Of each panel the greatest upper bound of its products."""

    def __init__(self, call: Call, target: Target, w: BlockCodes, factors: tuple[Temp, Temp], bounds: Temp) -> None:
        super().__init__(call, target, w)
        self.factors, self.bounds = factors, bounds
        self.b.kernel = f"likeliest_bounds_u{w.bits}_{target.isa}"

    def stage(self) -> Stage:
        """The kernel."""
        b = self.b
        self.left = b.arg(self.call.need(0), (self.rows, self.w.depth))
        self.by, self.more = (b.arg(t, (self.rows, self.w.blocks)) for t in self.factors)
        self.out = b.arg(self.bounds, (self.rows, self.w.panels))
        self.reader = Reader(b, self.w)
        with b:
            self.walk()
        return b.stage()

    def emit(self, count: int, first: tirx.Expr, panel: tirx.Expr, width: int, ahead: bool) -> None:
        """See GemmBlocks."""
        b, lanes = self.b, self.lanes
        total = b.local((count, lanes), "float32")
        for i in range(count):
            store_vector(b, total, splat(0.0, "float32", lanes), _int(i), _int(0))
        self.sum(total, count, first, panel, ahead)
        for i in range(count):  # columns beyond the last have scales of 0: their bound of 0 is one too many at most
            whole = b.let(load_vector(total, _int(i), _int(0), count=lanes))
            b.store(self.out, (first + i, panel), fold(b, whole, lanes, tirx.max))

    def shared(self, panel: tirx.Expr, block: tirx.Expr, factors: dict[str, tirx.Expr]) -> Shared:
        """See GemmBlocks."""
        return [(self.factor("scale", panel, block, factors), None)]

    def add(
        self, total: tirx.Var, i: int, row: tirx.Expr, block: tirx.Expr, sums: list[tirx.Expr], shared: Shared
    ) -> None:
        """See GemmBlocks."""
        lanes, ((scale, _),) = self.lanes, shared
        by, more = (tirx.Broadcast(t[row, block], lanes) for t in (self.by, self.more))
        value = sums[0].astype(f"float32x{lanes}") * by + more
        store_vector(self.b, total, load_vector(total, _int(i), _int(0), count=lanes) + value * scale, _int(i), _int(0))

    def _begin(self, row: tirx.Expr, block: tirx.Expr, part: int) -> tirx.Expr:
        return splat(0, "int32", self.lanes)


def _greatest(rows: Index, panels: int, bounds: Temp, chosen: Temp, target: Target) -> Stage:
    """chosen: for each row the panel of the greatest bound."""
    b = Builder(f"likeliest_greatest_{target.isa}")
    at = Temp((rows,), "int32", "at")
    given, places, out = b.arg(bounds), b.arg(at), b.arg(chosen)
    with b:
        with b.serial(rows, "row") as row:
            b.store(places, row, 0)
            with b.serial(panels, "panel") as p, b.when(given[row, as_expr(p)] > given[row, places[row]]):
                b.store(places, row, p)
        mark(b, rows, panels, lambda t, p: tirx.EQ(places[t], as_expr(p, "int32")), out)
    return b.stage()


def _reaching(rows: Index, panels: int, bounds: Temp, best: Temp, chosen: Temp, target: Target) -> Stage:
    """chosen: the panels whose bound reaches a row's greatest product so far."""
    b = Builder(f"likeliest_reaching_{target.isa}")
    given, value, out = b.arg(bounds), b.arg(best), b.arg(chosen)
    with b:
        mark(b, rows, panels, lambda t, p: given[t, p] >= value[t], out)
    return b.stage()


class _Exact(GemmBlocks):
    """Products of the chosen panels: the greatest so far and its column, the first of equals."""

    def __init__(self, call: Call, target: Target, w: BlockCodes, bounds: Temp, chosen: Temp, best: Temp) -> None:
        super().__init__(call, target, w)
        self.bounds, self.chosen, self.best = bounds, chosen, best
        self.b.kernel = f"likeliest_exact_{w.kind}_{target.isa}"

    def stage(self) -> Stage:
        """The kernel."""
        b, w = self.b, self.w
        self.left, self.left_scale = (b.arg(self.call.need(i)) for i in (0, 1))
        self.offset, self.fine, self.scaled = b.arg(self.call.need(2)), False, False
        bounds, numbers, value, winner = (b.arg(t) for t in (self.bounds, self.chosen, self.best, self.call.result))
        self.reader = PlanesReader(b, w)
        upper, lower = (self.reader.const, self.reader.w), (self.reader.lower.const, self.reader.lower)
        b.reading.rows, b.reading.beside = (
            Rows(leaf, self.chosen, w.panels, 1, part.panel_bytes, ends=True) for leaf, part in (upper, lower)
        )
        with b, b.parallel(w.panels, SERIAL) as task:
            panel = b.let(numbers[task].astype("int64"))
            held = bounds, value, winner
            with b.when(panel < tirx.const(w.panels, "int64")):
                cases: list[Case] = [] if isinstance(self.rows, int) else [
                    (tirx.EQ(self.rows, tirx.const(n, "int64")), partial(self.together, n, panel, *held))
                    for n in range(2, FEW + 1)
                ]  # fmt: skip
                self.by_rows([*cases, (True, partial(self.one_by_one, panel, *held))])
        return b.stage()

    def together(self, count: int, panel: tirx.Expr, bounds: tirx.Var, value: tirx.Var, winner: tirx.Var) -> None:
        """All rows, of which one wants the panel: they share what unpacks it, which is the most of it."""
        b = self.b
        rows = [_int(i) for i in range(count)]
        with b.when(tirx.any(*(bounds[i, panel] >= value[i] for i in rows))):
            total = self.products(count, tirx.const(0, "int64"), panel)
            with b.serial(count, "row") as row, b.when(bounds[row, panel] >= value[row]):
                self.compare(total, row, as_expr(row, "int64"), panel, value, winner)

    def one_by_one(self, panel: tirx.Expr, bounds: tirx.Var, value: tirx.Var, winner: tirx.Var) -> None:
        """Those rows that want it."""
        b = self.b
        with b.serial(self.rows, "row") as row:
            row = as_expr(row, "int64")
            with b.when(bounds[row, panel] >= value[row]):
                self.compare(self.products(1, row, panel), _int(0), row, panel, value, winner)

    def products(self, count: int, first: tirx.Expr, panel: tirx.Expr) -> tirx.Var:
        """Of `count` rows from `first` and a panel: [count, lanes]."""
        b = self.b
        total = b.local((count, self.lanes), "float32")
        for i in range(count):
            store_vector(b, total, splat(0.0, "float32", self.lanes), _int(i), _int(0))
        self.sum(total, count, first, panel, False)
        return total

    def compare(
        self, total: tirx.Var, at: tirx.Expr, row: tirx.Expr, panel: tirx.Expr, value: tirx.Var, winner: tirx.Var
    ) -> None:  # fmt: skip
        """Takes what is greater than the row's greatest, or as great and before it."""
        b = self.b
        with b.serial(self.lanes, "lane") as lane:
            column = b.let(panel * self.lanes + as_expr(lane, "int64"))
            one = b.let(total[at, lane])
            here = tirx.any(one > value[row], tirx.all(tirx.EQ(one, value[row]), column < winner[row]))
            with b.when(tirx.all(column < tirx.const(self.w.cols, "int64"), here)):
                b.store(value, row, one)
                b.store(winner, row, column)


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")
