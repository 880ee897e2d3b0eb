"""Many rows over the cache: blocks of rows, for each of which every block of keys is read and turned once.

Flash attention (Dao et al. 2022, arXiv:2205.14135): keys in the lanes for the scores, elements of the head in the lanes
for the weighted values, register tiles of rows times vectors for both. The result accumulates where it belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from . import vmath
from .builder import Builder
from .cached_attention_format import KEY, VALUE, fold
from .cached_attention_formats import FORMATS, format_of
from .cached_attention_visible import Visible
from .dot import load_vector, store_vector
from .lanes import turn
from .nibbles import splat
from .stage import Stage, Temp
from .tensor import Index, as_expr, simplify

if TYPE_CHECKING:
    from .cached_attention import Geometry

WORKERS = 16  # tasks, each with scratch of its own; they take turns with the blocks of rows
ROWS = 96  # rows times query heads that share a turned block of keys
TILE = 6  # of those in registers
SPAN = 32  # elements of a key that are turned without a loop
NEVER = -float("inf")


def prefill(g: Geometry, runs: Index, kind: type[Blocks]) -> Stage:
    """The stage for all rows. runs: 1 or, where it is skipped, 0. kind: how blocks are multiplied."""
    b = Builder(f"cached_attention_prefill_{g.format}_{ROWS}x{kind.step}_d{g.size}_{g.target.isa}")
    with b:
        blocks = kind(b, g)
        count = tirx.truncdiv(as_expr(g.rows, "int64") + (blocks.most - 1), _i(blocks.most))
        items = count * g.groups
        with b.parallel(simplify(runs * tirx.min(items, _i(WORKERS)))) as worker:
            turns = tirx.truncdiv(items - worker + (WORKERS - 1), _i(WORKERS))
            with b.serial(b.let(turns, "turns"), "turn") as turn_:
                blocks.item(worker, b.let(worker + turn_ * WORKERS, "item"))
        blocks.finish()
    return b.stage()


class Blocks:
    """Products in vector registers, `step` rows at a time."""

    step = TILE

    def __init__(self, b: Builder, g: Geometry) -> None:
        self.b, self.g, self.lanes = b, g, g.lanes
        self.most, self.keys = self.sizes(g)
        tall = -(-self.most * g.each // self.step) * self.step
        self.columns = 4 if g.target.registers >= 32 else 2
        self.queries, self.out = b.arg(g.queries), b.arg(g.call.results[0], (g.rows * g.heads * g.size,))
        self.visible = Visible(b, g)
        self.cache = format_of(b, g.call, g.size, g.lanes, self.visible.past)
        self.scratch(tall)
        self.cache.scratch(WORKERS, self.keys)
        self.bound = self.room((self.most, self.keys), "float32", "bound")
        self.state = self.room((tall, 3), "float32", "running")  # maximum, sum, how to rescale

    @staticmethod
    def sizes(g: Geometry) -> tuple[int, int]:
        """Rows and keys of a block."""
        return max(1, ROWS // g.each), 64 if g.size <= 128 else 32

    def room(self, shape: tuple[int, ...], dtype: str, name: str) -> tirx.Var:
        """Memory that a task has for itself at [self.worker]."""
        return self.b.arg(Temp((WORKERS, *shape), dtype, name))

    def mine(self, worker: tirx.Expr) -> tirx.Expr:
        """Where in such memory a task's is."""
        return worker

    def scratch(self, tall: int) -> None:
        """Memory for a block of keys and values, and for `tall` rows."""
        g = self.g
        self.turned = self.room((g.size, self.keys), "float32", "turned_keys")
        self.values = self.room((self.keys, g.size), "float32", "values")
        self.weights = self.room((tall, self.keys), "float32", "weights")

    def begin(self) -> None:
        """Emitted before a block's keys are met."""

    def collect(self) -> None:
        """Emitted when all have been met: now the result has the weighted values, and `state` the sums."""

    def finish(self) -> None:
        """Emitted after all tasks."""

    def item(self, worker: tirx.Expr, item: tirx.Expr) -> None:
        """One block of rows for one group. The last rows, which see the most, come first: threads then end together."""
        b, g = self.b, self.g
        self.task, self.worker = worker, self.mine(worker)
        self.group = b.let(tirx.truncmod(item, _i(g.groups)), "group")
        rows = as_expr(g.rows, "int64")
        last = tirx.truncdiv(rows - 1, _i(self.most))
        self.start = b.let((last - tirx.truncdiv(item, _i(g.groups))) * self.most, "start")
        self.end = b.let(tirx.min(rows, self.start + self.most), "end")
        self.height = b.let((self.end - self.start) * g.each, "height")
        self.tiles = b.let(tirx.truncdiv(self.height + (self.step - 1), _i(self.step)), "tiles")
        with b.serial(self.tiles * self.step, "row") as row:
            b.store(self.state, (self.worker, row, 0), NEVER)
            b.store(self.state, (self.worker, row, 1), 0.0)
        with b.serial(self.height, "row") as row:
            for d in range(0, g.size, self.lanes):
                store_vector(b, self.out, splat(0.0, "float32", self.lanes), self.spot(row) + d)
        self.begin()
        first = self.visible.first(self.start, self.end)
        past, total = self.visible.past, self.visible.past + as_expr(g.rows, "int64")
        self.cover(first, past)
        self.cover(past, total)
        self.collect()
        with b.serial(self.height, "row") as row:
            sum_ = b.let(self.state[self.worker, row, _i(1)], "sum")
            over = b.let(tirx.Select(sum_ == as_expr(0.0), as_expr(0.0), as_expr(1.0) / sum_), "over")
            at = b.let(self.spot(row), "at")
            done = b.local((g.size,), "float32")
            for d in range(0, g.size, self.lanes):
                value = load_vector(self.out, at + d, count=self.lanes) * tirx.Broadcast(over, self.lanes)
                store_vector(b, done, value, as_expr(d))
            FORMATS[g.format].mix(b, done, g.size, self.lanes)
            for d in range(0, g.size, self.lanes):
                store_vector(b, self.out, load_vector(done, as_expr(d), count=self.lanes), at + d)

    def spot(self, row: tirx.Expr) -> tirx.Expr:
        """Where in the result the row of this block begins."""
        g = self.g
        row = as_expr(row, "int64") + self.start * g.each
        i = tirx.truncdiv(row, _i(g.each))
        return (i * (g.heads - g.each) + row + self.group * g.each) * g.size

    def cover(self, first: tirx.Expr, end: tirx.Expr) -> None:
        """All keys [first, end), a block at a time. Old and new ones apart: new ones begin a block."""
        b, g = self.b, self.g
        blocks = tirx.truncdiv(end - first + (self.keys - 1), _i(self.keys))
        with b.serial(b.let(tirx.max(_i(0), blocks), "blocks"), "block") as block:
            start = b.let(first + block * self.keys, "from")
            base = b.let(tirx.min(start, as_expr(g.capacity, "int64") - self.keys), "base")
            limit = b.let(tirx.min(end, start + self.keys), "limit")
            low, high = b.let(start - base, "low"), b.let(limit - base, "high")
            seen = b.local((self.lanes,), "float32")
            store_vector(b, seen, splat(NEVER, "float32", self.lanes), as_expr(0))
            with b.serial(self.end - self.start, "i") as i:
                self.visible.fill(
                    self.bound, 0, self.start + i, base, start, limit, self.keys, (self.worker, i)
                )  # fmt: skip
                for j in range(0, self.keys, self.lanes):
                    held = load_vector(self.bound, self.worker, i, _i(j), count=self.lanes)
                    best = tirx.max(load_vector(seen, as_expr(0), count=self.lanes), held)
                    store_vector(b, seen, best, as_expr(0))
            any_ = fold(b, [load_vector(seen, as_expr(0), count=self.lanes)], self.lanes, tirx.max)
            with b.when(any_ > as_expr(0.0)):
                self.cache.load(self.task, self.group, base, self.keys)
                self.attend(base, low, high)

    def attend(self, base: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """All rows of the block over keys from `base` on, of which [low, high) count."""
        b = self.b
        self.read(base)
        with b.serial(self.tiles, "tile") as tile:
            row = b.let(tile * TILE, "row")
            self.products(row)
            with b.serial(_i(TILE), "r") as r:
                self.softmax(row + r, base)
            self.weigh(row, low, high)

    def read(self, base: tirx.Expr) -> None:
        """The block's keys turned, [size, keys], and its values, both as float32."""
        b, g, lanes = self.b, self.g, self.lanes
        step = g.size // SPAN  # in loops of spans, with the vectors of one written out
        with b.serial(_i(self.keys // lanes), "k") as k:
            if step:
                with b.serial(_i(step), "d") as d:
                    for c in range(SPAN // lanes):
                        self._turn(base, k, d * SPAN, c)
            if g.size % SPAN:
                for c in range(g.size % SPAN // lanes):
                    self._turn(base, k, _i(step * SPAN), c)
        with b.serial(_i(self.keys), "k") as k:
            for c in range(g.size // lanes):
                value = self.cache.read(VALUE, self.group, base + k, _i(c // 4 * 4 * lanes), c % 4)
                store_vector(b, self.values, value, self.worker, k, _i(c * lanes))

    def _turn(self, base: tirx.Expr, k: tirx.Expr, start: tirx.Expr, c: int) -> None:
        """A square of the block's keys turned: vector c of `lanes` rows, from element `start` on."""
        b, lanes = self.b, self.lanes
        rows = [self.cache.read(KEY, self.group, base + k * lanes + u, start, c) for u in range(lanes)]
        for j, column in enumerate(turn(b, rows, lanes)):
            store_vector(b, self.turned, column, self.worker, start + c * lanes + j, k * lanes)

    def place(self, row: tirx.Expr) -> tirx.Expr:
        """A row of the block that is there: beyond the end the last one again, which does the same once more."""
        return tirx.min(row, self.height - 1)

    def products(self, row: tirx.Expr) -> None:
        """weights[row : row + TILE] = queries times keys."""
        b, g, lanes = self.b, self.g, self.lanes
        places = [b.let(self.start * g.each + self.place(row + r), "query") for r in range(TILE)]
        columns = min(self.columns, self.keys // lanes)
        with b.serial(_i(self.keys // lanes // columns), "k") as k:
            acc = b.local((TILE * columns * lanes,), "float32")
            for j in range(TILE * columns):
                store_vector(b, acc, splat(0.0, "float32", lanes), as_expr(j * lanes))
            key = b.let(k * (columns * lanes), "key")
            with b.serial(_i(g.size), "d") as d:
                keys = [
                    b.let(load_vector(self.turned, self.worker, d, key + c * lanes, count=lanes), "k")
                    for c in range(columns)
                ]
                for r, place in enumerate(places):
                    query = b.let(tirx.Broadcast(self.queries[self.group, place, d], lanes), "q")
                    for c in range(columns):
                        at = as_expr((r * columns + c) * lanes)
                        store_vector(b, acc, load_vector(acc, at, count=lanes) + query * keys[c], at)
            for r in range(TILE):
                for c in range(columns):
                    value = load_vector(acc, as_expr((r * columns + c) * lanes), count=lanes)
                    store_vector(b, self.weights, value, self.worker, row + r, key + c * lanes)

    def softmax(self, row: tirx.Expr, base: tirx.Expr) -> None:
        """The scores of one row as weights; its maximum and sum."""
        b, g, lanes = self.b, self.g, self.lanes
        i = b.let(tirx.truncdiv(self.place(row), _i(g.each)), "i")
        most = splat(NEVER, "float32", lanes)
        for j in range(0, self.keys, lanes):
            value = load_vector(self.weights, self.worker, row, _i(j), count=lanes)
            factor = self.cache.factors(KEY, self.group, base + j)
            value = value if factor is None else value * factor
            value = b.let(tirx.min(value, load_vector(self.bound, self.worker, i, _i(j), count=lanes)), "score")
            store_vector(b, self.weights, value, self.worker, row, _i(j))
            most = b.let(tirx.max(most, value), "most")
        before = b.let(self.state[self.worker, row, _i(0)], "before")
        top = b.keep(tirx.max(fold(b, [most], lanes, tirx.max), before))
        # where nothing is seen yet the maximum is -inf: 0 in its place keeps exp(-inf - max) zero instead of NaN
        safe = b.let(tirx.Select(top == as_expr(NEVER), as_expr(0.0), top), "safe")
        rescale = b.keep(vmath.exp_flush(b.let(before - safe, "gap")))
        total = b.local((lanes,), "float32")
        store_vector(b, total, splat(0.0, "float32", lanes), as_expr(0))
        with b.serial(_i(self.keys // lanes), "j") as j:
            with b.vector(lanes) as v:
                place = (self.worker, row, j * lanes + v)
                weight = b.let(vmath.exp_flush(self.weights[place] - safe), "w")
                b.store(self.weights, place, weight)
                b.store(total, v, total[v] + weight)
            factor = self.cache.factors(VALUE, self.group, base + j * lanes)
            if factor is not None:
                weights = load_vector(self.weights, self.worker, row, j * lanes, count=lanes)
                store_vector(b, self.weights, weights * factor, self.worker, row, j * lanes)
        added = fold(b, [load_vector(total, as_expr(0), count=lanes)], lanes, lambda x, y: x + y)
        b.store(self.state, (self.worker, row, 0), top)
        b.store(self.state, (self.worker, row, 1), self.state[self.worker, row, _i(1)] * rescale + added)
        b.store(self.state, (self.worker, row, 2), rescale)

    def weigh(self, row: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """Adds the block's weighted values to TILE rows of the result, rescaled."""
        b, g, lanes = self.b, self.g, self.lanes
        places = [b.let(self.spot(self.place(row + r)), "out") for r in range(TILE)]
        vectors = g.size // lanes
        whole = vectors // self.columns
        if whole:
            with b.serial(_i(whole), "c") as c:
                self._columns(row, places, c * (self.columns * lanes), self.columns, low, high)
        if vectors % self.columns:
            rest = _i(whole * self.columns * lanes)
            self._columns(row, places, rest, vectors % self.columns, low, high)

    def _columns(
        self, row: tirx.Expr, places: list[tirx.Expr], start: tirx.Expr, columns: int, low: tirx.Expr, high: tirx.Expr
    ) -> None:
        b, lanes = self.b, self.lanes
        acc = b.local((TILE * columns * lanes,), "float32")
        spots = [(r, c, as_expr((r * columns + c) * lanes)) for r in range(TILE) for c in range(columns)]
        rescales = [b.let(self.state[self.worker, row + r, _i(2)], "rescale") for r in range(TILE)]
        for r, c, at in spots:
            held = load_vector(self.out, places[r] + start + c * lanes, count=lanes)
            store_vector(b, acc, held * tirx.Broadcast(rescales[r], lanes), at)
        with b.serial(high - low, "t", start=low) as t:
            values = [
                b.let(load_vector(self.values, self.worker, t, start + c * lanes, count=lanes), "v")
                for c in range(columns)
            ]
            for r in range(TILE):
                weight = b.let(tirx.Broadcast(self.weights[self.worker, row + r, t], lanes), "w")
                for c in range(columns):
                    at = as_expr((r * columns + c) * lanes)
                    store_vector(b, acc, load_vector(acc, at, count=lanes) + weight * values[c], at)
        for r, c, at in spots:
            value = load_vector(acc, at, count=lanes)
            store_vector(b, self.out, value, places[r] + start + c * lanes)


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
