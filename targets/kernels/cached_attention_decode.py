"""Few rows over a long cache: the context is split into pieces, one task each, whose results are reduced.

LeanAttention (Sanovar et al. 2024, arXiv:2405.10480): each piece leaves its maximum, its sum and its weighted values.
The elements of a head lie in the lanes, so that keys and values are read in place; the query heads that share a key
take it together. Which piece a key belongs to, and which block, its own place says alone: a row's sums then come in the
same order however many rows run with it, and their bits are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tvm import tirx

from . import vmath
from .builder import Builder
from .cached_attention_format import KEY, VALUE, fold
from .cached_attention_formats import FORMATS, format_of
from .cached_attention_visible import Visible
from .dot import load_vector, store_vector
from .nibbles import splat
from .stage import Stage, Temp
from .tensor import Index, as_expr

if TYPE_CHECKING:
    from .cached_attention import Geometry

PIECES = 8  # that stretches of the context go to in turn
STRETCH = 256  # keys
BLOCK = 64  # of which a stretch is a multiple
KEYS = 4  # keys whose products are summed across lanes together
PAIRED = 6  # query heads of several rows that take them together: 24 sums
AHEAD = 1 << 20  # keys and values of the next block are asked for
NEVER = -float("inf")
STEP, UNROLLED = 4, 8  # vectors of a head: those of a loop's step, and how many are written out without one
COLUMNS = 4  # vectors of the result in registers, for each query head


@dataclass(eq=False)
class Partial:
    """The first stage and what it leaves: results [groups, pieces, rows, size], maxima and sums [..., rows, 2]."""

    stage: Stage
    results: Temp
    sums: Temp


def partial(g: Geometry, most: int, runs: Index) -> Partial:
    """The stage of the pieces. most: rows times heads of a group; runs: 1 or, where it is skipped, 0."""
    results = Temp((g.groups, PIECES, most, g.size), "float32", "partial")
    sums = Temp((g.groups, PIECES, most, 2), "float32", "partial_sums")
    b = Builder(f"cached_attention_decode_{g.format}_{g.each}x{KEYS}_d{g.size}_{g.target.isa}")
    with b:
        pieces = _Pieces(b, g, results, sums)
        with b.parallel(runs * (g.groups * PIECES)) as task:
            pieces.task(task)
    return Partial(b.stage(), results, sums)


def pieces_of(total: tirx.Expr) -> tirx.Expr:
    """How many of the pieces the keys [0, total) reach."""
    return tirx.min(_i(PIECES), tirx.truncdiv(total + (STRETCH - 1), _i(STRETCH)))


class _Pieces:
    def __init__(self, b: Builder, g: Geometry, results: Temp, sums: Temp) -> None:
        self.b, self.g, self.lanes = b, g, g.lanes
        self.queries = b.arg(g.queries)
        self.results, self.sums = b.arg(results), b.arg(sums)
        self.visible = Visible(b, g)
        self.cache = format_of(b, g.call, g.size, g.lanes, self.visible.past)
        self.cache.scratch(g.groups * PIECES, BLOCK)
        most = 4 if g.target.registers >= 32 else 3
        tiles = -(-g.each // most)
        ends = [g.each * i // tiles for i in range(tiles + 1)]
        self.tiles = [(start, end - start) for start, end in pairwise(ends)]
        # rows whose heads take a key together; what they sum up stays in registers
        self.together = 1 if tiles > 1 or g.target.registers < 32 else PAIRED // g.each

    def task(self, task: tirx.Expr) -> None:
        b, g = self.b, self.g
        self.slot, self.group = task, b.let(tirx.truncdiv(task, _i(PIECES)), "group")
        self.piece = b.let(tirx.truncmod(task, _i(PIECES)), "piece")
        total = b.let(self.visible.past + as_expr(g.rows, "int64"), "total")
        first = tirx.truncdiv(self.visible.first(_i(0), as_expr(g.rows, "int64")), _i(BLOCK)) * BLOCK
        with b.when(self.piece < pieces_of(total)):
            with b.serial(as_expr(g.rows, "int64") * g.each, "row") as row:
                b.store(self.sums, (self.group, self.piece, row, 0), NEVER)
                b.store(self.sums, (self.group, self.piece, row, 1), 0.0)
                for d in range(0, g.size, self.lanes):
                    place = (self.group, self.piece, row, as_expr(d, "int64"))
                    store_vector(b, self.results, splat(0.0, "float32", self.lanes), *place)
            self.bound = b.local((self.together * BLOCK,), "float32")
            widest = max(count for _, count in self.tiles) * self.together
            self.scores = b.local((widest * BLOCK,), "float32")
            self.rescale = b.local((widest,), "float32")
            own, turn = b.let(self.piece * STRETCH, "own"), PIECES * STRETCH
            done = b.let(tirx.truncdiv(tirx.max(_i(0), first - own), _i(turn)), "done")
            turns = tirx.truncdiv(total - own + (turn - 1), _i(turn))
            with b.serial(turns - done, "turn", start=done) as i:
                low = b.let(own + as_expr(i, "int64") * turn, "low")
                start = b.let(tirx.max(low, first), "start")
                end = b.let(tirx.min(total, low + STRETCH), "end")
                blocks = tirx.max(_i(0), tirx.truncdiv(end - start + (BLOCK - 1), _i(BLOCK)))
                with b.serial(b.let(blocks, "count"), "block") as block:
                    self.block(b.let(start + as_expr(block, "int64") * BLOCK, "from"), end)

    def block(self, start: tirx.Expr, end: tirx.Expr) -> None:
        """Keys [start, min(start + BLOCK, end)), read as the BLOCK from `base` on, for all rows and heads."""
        b, g = self.b, self.g
        base = b.let(tirx.min(start, as_expr(g.capacity, "int64") - BLOCK), "base")
        span = b.let(start - base, "low"), b.let(tirx.min(_i(BLOCK), end - base), "high")
        self.cache.load(self.slot, self.group, base, BLOCK)
        whole = b.let(tirx.truncdiv(as_expr(g.rows, "int64"), _i(self.together)), "whole")
        with b.serial(whole, "i") as i:
            self.rows(b.let(as_expr(i, "int64") * self.together, "row"), self.together, base, start, end, span)
        if self.together > 1:
            with b.serial(g.rows - whole * self.together, "i", start=whole * self.together) as i:
                self.rows(as_expr(i, "int64"), 1, base, start, end, span)

    def rows(
        self, first: tirx.Expr, several: int, base: tirx.Expr, start: tirx.Expr, end: tirx.Expr,
        span: tuple[tirx.Expr, tirx.Expr],
    ) -> None:  # fmt: skip
        """The same for `several` rows."""
        b, g = self.b, self.g
        for i in range(several):
            until = tirx.min(end, start + BLOCK)
            self.visible.fill(self.bound, i * BLOCK, first + i, base, start, until, BLOCK)
        for head, count in self.tiles:
            row = b.let(first * g.each + head, "row")
            self.products(row, several * count, base)
            for r in range(several * count):
                self.softmax(row, r, base, r // count * BLOCK)
            self.values(row, several * count, base, *span)

    # ---- scores ---------------------------------------------------------------------------------------------------
    def products(self, row: tirx.Expr, count: int, base: tirx.Expr) -> None:
        """scores[r][key] of `count` query heads."""
        b, lanes, vectors = self.b, self.lanes, self.g.size // self.lanes
        pairs = [(r, u) for r in range(count) for u in range(KEYS)]
        with b.serial(_i(BLOCK // KEYS), "keys") as keys:
            key = b.let(base + keys * KEYS, "key")
            acc = b.local((len(pairs) * lanes,), "float32")

            def spot(r: int, u: int) -> tirx.Expr:
                return as_expr((r * KEYS + u) * lanes)

            def add(start: tirx.Expr, c: int) -> None:
                rows = [b.let(self.cache.read(KEY, self.group, key + u, start, c), "k") for u in range(KEYS)]
                for r in range(count):
                    query = b.let(load_vector(self.queries, self.group, row + r, start + c * lanes, count=lanes), "q")
                    for u in range(KEYS):
                        store_vector(b, acc, load_vector(acc, spot(r, u), count=lanes) + query * rows[u], spot(r, u))

            for u in range(KEYS):
                self.cache.fetch(KEY, self.group, key + (AHEAD + u))
            for pair in pairs:
                store_vector(b, acc, splat(0.0, "float32", lanes), spot(*pair))
            looped = vectors // STEP if vectors > UNROLLED else 0
            if looped:
                with b.serial(_i(looped), "d") as d:
                    for c in range(STEP):
                        add(d * (STEP * lanes), c)
            for c in range(looped * STEP, vectors):
                add(_i(c // STEP * STEP * lanes), c % STEP)
            for r in range(count):
                parts = [load_vector(acc, spot(r, u), count=lanes) for u in range(KEYS)]
                store_vector(b, self.scores, four_sums(b, parts, lanes), r * BLOCK + keys * KEYS)

    def softmax(self, row: tirx.Expr, r: int, base: tirx.Expr, bound: int) -> None:
        """Turns the scores of one query head into weights; keeps its maximum and sum, and how to rescale.

        bound: where its row's bounds begin."""
        b, lanes, at = self.b, self.lanes, r * BLOCK
        state = (self.group, self.piece, row + r)
        most = splat(NEVER, "float32", lanes)
        for j in range(0, BLOCK, lanes):
            value = load_vector(self.scores, as_expr(at + j), count=lanes)
            factor = self.cache.factors(KEY, self.group, base + j)
            value = value if factor is None else value * factor
            value = b.let(tirx.min(value, load_vector(self.bound, as_expr(bound + j), count=lanes)), "score")
            store_vector(b, self.scores, value, as_expr(at + j))
            most = b.let(tirx.max(most, value), "most")
        before = b.let(self.sums[(*state, _i(0))], "before")
        top = b.keep(tirx.max(fold(b, [most], lanes, tirx.max), before))
        # where nothing is seen yet the maximum is -inf: 0 in its place keeps exp(-inf - max) zero instead of NaN
        safe = b.let(tirx.Select(top == as_expr(NEVER), as_expr(0.0), top), "safe")
        rescale = b.keep(vmath.exp_flush(b.let(before - safe, "gap")))
        b.store(self.rescale, r, rescale)
        total = b.local((lanes,), "float32")
        store_vector(b, total, splat(0.0, "float32", lanes), as_expr(0))
        with b.serial(BLOCK // lanes, "j") as j:
            with b.vector(lanes) as v:
                place = at + j * lanes + v
                weight = b.let(vmath.exp_flush(self.scores[place] - safe), "w")
                b.store(self.scores, place, weight)
                b.store(total, v, total[v] + weight)
            factor = self.cache.factors(VALUE, self.group, base + as_expr(j, "int64") * lanes)
            if factor is not None:
                weights = load_vector(self.scores, at + j * lanes, count=lanes)
                store_vector(b, self.scores, weights * factor, at + j * lanes)
        added = fold(b, [load_vector(total, as_expr(0), count=lanes)], lanes, lambda x, y: x + y)
        b.store(self.sums, (*state, 1), self.sums[(*state, _i(1))] * rescale + added)
        b.store(self.sums, (*state, 0), top)

    def values(self, row: tirx.Expr, count: int, base: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """Adds the weighted values of the block to the results of `count` query heads."""
        b, lanes, vectors = self.b, self.lanes, self.g.size // self.lanes
        for first in range(0, vectors, COLUMNS):
            columns = range(first, min(vectors, first + COLUMNS))
            spots = [(r, c) for r in range(count) for c in columns]
            acc = b.local((len(spots) * lanes,), "float32")

            def place(r: int, c: int) -> tuple:
                return self.group, self.piece, row + r, _i(c * lanes)

            for j, (r, c) in enumerate(spots):
                held = load_vector(self.results, *place(r, c), count=lanes)
                store_vector(b, acc, held * tirx.Broadcast(self.rescale[r], lanes), as_expr(j * lanes))
            with b.serial(high - low, "t", start=low) as t:
                if not first:
                    self.cache.fetch(VALUE, self.group, base + t + AHEAD)
                weights = [b.let(self.scores[r * BLOCK + t], "w") for r in range(count)]
                for c in columns:
                    value = b.let(
                        self.cache.read(VALUE, self.group, base + t, _i(c // STEP * STEP * lanes), c % STEP), "v"
                    )
                    for r in range(count):
                        at = as_expr(((r * len(columns)) + c - first) * lanes)
                        total = load_vector(acc, at, count=lanes) + tirx.Broadcast(weights[r], lanes) * value
                        store_vector(b, acc, total, at)
            for j, (r, c) in enumerate(spots):
                store_vector(b, self.results, load_vector(acc, as_expr(j * lanes), count=lanes), *place(r, c))


def combine(g: Geometry, first: Partial, runs: Index) -> Stage:
    """The pieces' results as one: weights exp(m - max m), divided by the sum of all."""
    b = Builder(f"cached_attention_combine_d{g.size}_{g.target.isa}")
    with b:
        results, sums, out = b.arg(first.results), b.arg(first.sums), b.arg(g.call.results[0])
        visible = Visible(b, g)
        with b.parallel(runs * (as_expr(g.rows, "int64") * g.heads), max(1, 8192 // g.size)) as task:
            i, head = b.let(tirx.truncdiv(task, _i(g.heads))), b.let(tirx.truncmod(task, _i(g.heads)))
            group = b.let(tirx.truncdiv(head, _i(g.each)))
            row = b.let(i * g.each + head - group * g.each, "row")
            total = b.let(visible.past + as_expr(g.rows, "int64"), "total")
            pieces = b.let(pieces_of(total), "pieces")
            top, sum_ = b.local((1,), "float32"), b.local((1,), "float32")
            b.store(top, 0, NEVER)
            with b.serial(pieces, "p") as p:
                b.store(top, 0, tirx.max(top[0], sums[group, p, row, _i(0)]))
            safe = b.let(tirx.Select(top[0] == as_expr(NEVER), as_expr(0.0), top[0]), "safe")
            acc = b.local((g.size,), "float32")
            b.store(sum_, 0, 0.0)
            for d in range(0, g.size, g.lanes):
                store_vector(b, acc, splat(0.0, "float32", g.lanes), as_expr(d))
            with b.serial(pieces, "p") as p:
                weight = b.keep(vmath.exp_flush(b.let(sums[group, p, row, _i(0)] - safe, "gap")))
                b.store(sum_, 0, sum_[0] + weight * sums[group, p, row, _i(1)])
                for d in range(0, g.size, g.lanes):
                    part = load_vector(results, group, p, row, _i(d), count=g.lanes)
                    held = load_vector(acc, as_expr(d), count=g.lanes)
                    store_vector(b, acc, held + tirx.Broadcast(weight, g.lanes) * part, as_expr(d))
            none = sum_[0] == as_expr(0.0)
            over = b.let(tirx.Select(none, as_expr(0.0), as_expr(1.0) / sum_[0]), "over")
            for d in range(0, g.size, g.lanes):
                value = load_vector(acc, as_expr(d), count=g.lanes) * tirx.Broadcast(over, g.lanes)
                store_vector(b, acc, value, as_expr(d))
            FORMATS[g.format].mix(b, acc, g.size, g.lanes)
            for d in range(0, g.size, g.lanes):
                store_vector(b, out, load_vector(acc, as_expr(d), count=g.lanes), i, head * g.size + d)
    return b.stage()


def four_sums(b: Builder, parts: list[tirx.Expr], lanes: int) -> tirx.Expr:
    """The sums of the lanes of four vectors, as one vector of four."""
    quads = range(0, lanes, 4)
    low, high = ([as_expr(q + o + w * lanes) for q in quads for o in (p, p + 1) for w in (0, 1)] for p in (0, 2))
    pairs = [b.let(tirx.Shuffle([x, y], low) + tirx.Shuffle([x, y], high), "pair") for x, y in (parts[:2], parts[2:])]
    near, far = ([as_expr(q + p + o + w * lanes) for q in quads for w in (0, 1) for o in (0, 1)] for p in (0, 2))
    total = b.let(tirx.Shuffle(pairs, near) + tirx.Shuffle(pairs, far), "quad")
    while lanes > 4:
        lanes //= 2
        halves = [tirx.Shuffle([total], [as_expr(s + i) for i in range(lanes)]) for s in (0, lanes)]
        total = b.let(halves[0] + halves[1], "half")
    return total


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
