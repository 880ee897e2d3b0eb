"""Many rows over the cache on AMX: cached_attention_prefill.py's blocks, multiplied in bfloat16 tiles.

Queries, keys, weights and values are rounded to bfloat16 (8 bits of mantissa); scores, running sums and the result stay
float32. All is turned: scores are keys times queries, the result values times weights, so that 16 queries are a
vector's lanes, and maxima and sums are taken from vector to vector. Pairs in a tile's lanes are of elements 16 apart,
of both sides alike, so that no vector has to be interleaved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tvm import tirx

from . import amx
from .aligned import vector_local
from .amx import BLOCK, COLS, ROW, ROWS, SIDE, SUMS
from .bf16 import pairs
from .cached_attention_format import KEY, VALUE
from .cached_attention_prefill import NEVER, Blocks
from .dot import load_vector, store_vector
from .exp2 import exp2
from .lanes import turn
from .nibbles import splat
from .tensor import as_expr

if TYPE_CHECKING:
    from .builder import Builder
    from .cached_attention import Geometry

LEAST = BLOCK  # rows: fewer have the bits that each alone gets, but for the order of sums
DEEP = 2 * SIDE  # elements of a reduction that a tile takes
KEYS = 64  # of a block
ROWS_OF_SMALL, ROWS_OF_LARGE = 192, 128  # rows times query heads that share a block of keys, of heads to 128 and larger
NEAR = 48 << 10  # rows times elements up to which all is on the stack: 400 KB of a thread's megabyte
LOG2E = 1.4426950408889634
Right: TypeAlias = Callable[[int, tirx.Expr], tirx.Expr]


def takes(g: Geometry) -> bool:
    """Whether the target has tiles, and heads fill them."""
    return g.target.tiles == "amx" and g.size % DEEP == 0


class TileBlocks(Blocks):
    """Products in tiles. A block's rows are taken by query head, 32 of one at a time: a chunk."""

    step = BLOCK

    def __init__(self, b: Builder, g: Geometry) -> None:
        super().__init__(b, g)
        amx.configure(b, b.arg(amx.configurations(ROW, [(SIDE, SIDE)])), 0)

    @staticmethod
    def sizes(g: Geometry) -> tuple[int, int]:
        """See Blocks.sizes."""
        limit = ROWS_OF_SMALL if g.size <= 128 else ROWS_OF_LARGE
        return max(BLOCK, limit // g.each // BLOCK * BLOCK), KEYS

    def room(self, shape: tuple[int, ...], dtype: str, name: str) -> tirx.Var:
        """See Blocks.room. On the stack, where what a core has written stays with it."""
        return vector_local(self.b, (1, *shape), dtype) if self.near else super().room(shape, dtype, name)

    def mine(self, worker: tirx.Expr) -> tirx.Expr:
        """See Blocks.mine."""
        return _i(0) if self.near else worker

    def scratch(self, tall: int) -> None:
        """See Blocks.scratch. Columns of `turned` and `sums` are by query head."""
        b, size = self.b, self.g.size
        self.near = tall * size <= NEAR
        self.keys_of = self.room((KEYS, size // 2), "uint32", "keys")
        self.values_of = self.room((size, KEYS // 2), "uint32", "values")
        self.turned = self.room((tall // SIDE, size // DEEP, SIDE, SIDE), "uint32", "turned_queries")
        self.totals = self.room((size, tall), "float32", "totals")
        self.running = self.room((2, tall), "float32", "maximum_and_sum")
        self.limits = self.room((KEYS, self.most), "float32", "turned_bound")
        self.scores = vector_local(b, (KEYS, BLOCK), "float32")
        self.shares = vector_local(b, (2 * KEYS // DEEP * SIDE, SIDE), "uint32")
        self.made = vector_local(b, (BLOCK, BLOCK), "float32")
        self.square = vector_local(b, (SIDE, SIDE), "uint32")

    def finish(self) -> None:
        """See Blocks.finish."""
        amx.release(self.b)

    def chunks(self) -> tuple[tirx.Expr, int]:
        """How many chunks there are of the rows at hand, and of a whole block's rows."""
        some = tirx.truncdiv(self.end - self.start + (BLOCK - 1), _i(BLOCK))
        return self.b.let(some * self.g.each, "chunks"), self.most // BLOCK

    def place(self, row: tirx.Expr) -> tirx.Expr:
        """A row of the block that is there: beyond the end the last one again."""
        return tirx.min(row, self.end - self.start - 1)

    def begin(self) -> None:
        """The block's queries as right tiles, in units of log2(e); no sums yet."""
        b, g = self.b, self.g
        self.count, whole = self.chunks()
        factor = splat(LOG2E, "float32", SIDE)
        with b.serial(self.count, "chunk") as n:
            head, first, column = self.chunk(n, whole)
            for p in range(2):
                at = b.let(column + p * SIDE)
                store_vector(b, self.running, splat(NEVER, "float32", SIDE), self.worker, _i(0), at)
                store_vector(b, self.running, splat(0.0, "float32", SIDE), self.worker, _i(1), at)
                with b.serial(_i(g.size), "d") as d:
                    store_vector(b, self.totals, splat(0.0, "float32", SIDE), self.worker, d, at)
                with b.serial(_i(g.size // DEEP), "d") as d:
                    with b.serial(_i(SIDE), "u") as u:
                        query = b.let((self.start + self.place(first + p * SIDE + u)) * g.each + head, "query")
                        parts = [
                            load_vector(self.queries, self.group, query, d * DEEP + i, count=SIDE) for i in (0, SIDE)
                        ]
                        store_vector(b, self.square, pairs(*(part * factor for part in parts)), u, _i(0))
                    panel = b.let(tirx.truncdiv(at, _i(SIDE)))
                    for i, row in enumerate(self.columns_of()):
                        store_vector(b, self.turned, row, self.worker, panel, d, _i(i), _i(0))

    def chunk(self, n: tirx.Expr, whole: int) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
        """Of chunk n of those at hand: its query head, its first row in the block, its first column."""
        b, n, each = self.b, as_expr(n, "int64"), self.g.each
        head, part = b.let(tirx.truncmod(n, _i(each))), b.let(tirx.truncdiv(n, _i(each)))
        return head, b.let(part * BLOCK), b.let((head * whole + part) * BLOCK)

    def columns_of(self) -> list[tirx.Expr]:
        """The columns of `square`, which its rows went through: TVM would take long over turned expressions."""
        rows = [load_vector(self.square, _i(r), _i(0), count=SIDE) for r in range(SIDE)]
        columns = turn(self.b, [tirx.reinterpret(f"float32x{SIDE}", row) for row in rows], SIDE)
        return [tirx.reinterpret(f"uint32x{SIDE}", column) for column in columns]

    def attend(self, base: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """See Blocks.attend."""
        b = self.b
        self.read_keys(base)
        self.read_values(base, low, high)
        with b.serial(_i(self.most // SIDE), "i") as i, b.serial(_i(KEYS // SIDE), "u") as u:
            rows = [load_vector(self.bound, self.worker, i * SIDE + r, u * SIDE, count=SIDE) for r in range(SIDE)]
            for r, column in enumerate(turn(b, rows, SIDE)):
                store_vector(b, self.limits, column, self.worker, u * SIDE + r, i * SIDE)
        whole = self.chunks()[1]
        with b.serial(self.count, "chunk") as n:
            _, first, column = self.chunk(n, whole)
            with b.serial(_i(KEYS // BLOCK), "k") as k:
                at = as_expr(k, "int64") * BLOCK
                self._multiply(
                    self.keys_of, at, self.g.size // DEEP,
                    lambda p, s: self.turned[self.worker, tirx.truncdiv(column, _i(SIDE)) + p, s, _i(0), _i(0)],
                )  # fmt: skip
                for i, j, tile in SPOTS:
                    amx.store(b, tile, tirx.address_of(self.scores[at + i * SIDE, _i(j * SIDE)]), BLOCK * 4)
            rescale = [self.softmax_of(p, b.let(first + p * SIDE), b.let(column + p * SIDE)) for p in range(2)]
            with b.serial(_i(self.g.size // BLOCK), "d") as d:
                self.add(b.let(as_expr(d, "int64") * BLOCK), column, rescale)

    def factor(self, kv: int, base: tirx.Expr) -> tirx.Var | None:
        """The factors of the block's rows, one by one, where there are any."""
        held = None
        for u in range(0, KEYS, SIDE):
            factors = self.cache.factors(kv, self.group, base + u)
            if factors is not None:
                held = self.b.local((KEYS,), "float32") if held is None else held
                store_vector(self.b, held, factors, _i(u))
        return held

    def part(self, kv: int, held: tirx.Var | None, base: tirx.Expr, u: tirx.Expr, d: tirx.Expr, c: int) -> tirx.Expr:
        """16 elements of row u of the block's keys or values."""
        value = self.cache.read(kv, self.group, base + u, d, c)
        return value if held is None else value * tirx.Broadcast(held[u], SIDE)

    def read_keys(self, base: tirx.Expr) -> None:
        """The block's keys as left tiles."""
        b, held = self.b, self.factor(KEY, base)
        with b.serial(_i(KEYS), "u") as u, b.serial(_i(self.g.size // DEEP), "d") as d:
            parts = [self.part(KEY, held, base, u, d * DEEP, c) for c in (0, 1)]
            store_vector(b, self.keys_of, pairs(*parts), self.worker, u, d * SIDE)

    def read_values(self, base: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """The block's values as left tiles, turned. Zeros outside [low, high)."""
        b, held, zero = self.b, self.factor(VALUE, base), splat(0.0, "float32", SIDE)
        with b.serial(_i(KEYS // DEEP), "k") as k, b.serial(_i(self.g.size // DEEP), "d") as d:
            for c in (0, 1):
                with b.serial(_i(SIDE), "r") as r:
                    parts = []
                    for i in (0, SIDE):
                        u = b.let(k * DEEP + r + i)
                        there = tirx.Broadcast(tirx.all(u >= low, u < high), SIDE)
                        parts.append(tirx.Select(there, self.part(VALUE, held, base, u, d * DEEP, c), zero))
                    store_vector(b, self.square, pairs(*parts), r, _i(0))
                for i, column in enumerate(self.columns_of()):
                    store_vector(b, self.values_of, column, self.worker, d * DEEP + (c * SIDE + i), k * SIDE)

    def softmax_of(self, p: int, first: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        """16 columns of scores as weights, rounded; their maxima and sums. Returns what sums before are worth now."""
        b = self.b
        before = b.let(load_vector(self.running, self.worker, _i(0), column, count=SIDE), "before")
        best = b.local((4 * SIDE,), "float32")
        for i in range(4):
            store_vector(b, best, before, _i(i * SIDE))
        with b.serial(_i(KEYS // 4), "u") as u:
            for i in range(4):
                at = b.let(as_expr(u, "int64") * 4 + i)
                score = load_vector(self.scores, at, _i(p * SIDE), count=SIDE)
                # in this order: whatever lies in rows that were never written, the bound is -inf
                score = b.let(tirx.min(score, load_vector(self.limits, self.worker, at, first, count=SIDE)), "score")
                store_vector(b, self.scores, score, at, _i(p * SIDE))
                most = tirx.max(load_vector(best, _i(i * SIDE), count=SIDE), score)
                store_vector(b, best, most, _i(i * SIDE))
        tops = [load_vector(best, _i(i * SIDE), count=SIDE) for i in range(4)]
        top = b.let(tirx.max(tirx.max(tops[0], tops[1]), tirx.max(tops[2], tops[3])), "top")
        # where nothing is seen yet the maximum is -inf: 0 in its place keeps exp(-inf - max) zero instead of NaN
        never, zero = splat(NEVER, "float32", SIDE), splat(0.0, "float32", SIDE)
        safe = b.let(tirx.Select(tirx.EQ(top, never), zero, top), "safe")
        rescale = exp2(b, before - safe)
        total = b.local((SIDE,), "float32")
        store_vector(b, total, zero, _i(0))
        for s in range(KEYS // DEEP):
            with b.serial(_i(SIDE), "u") as u:
                u = as_expr(u, "int64")
                weights = [
                    exp2(b, load_vector(self.scores, u + (s * DEEP + i), _i(p * SIDE), count=SIDE) - safe)
                    for i in (0, SIDE)
                ]
                store_vector(b, total, load_vector(total, _i(0), count=SIDE) + (weights[0] + weights[1]), _i(0))
                store_vector(b, self.shares, pairs(*weights), (p * (KEYS // DEEP) + s) * SIDE + u, _i(0))
        store_vector(b, self.running, top, self.worker, _i(0), column)
        sums = load_vector(self.running, self.worker, _i(1), column, count=SIDE) * rescale
        store_vector(b, self.running, sums + load_vector(total, _i(0), count=SIDE), self.worker, _i(1), column)
        return rescale

    def add(self, d: tirx.Expr, column: tirx.Expr, rescale: list[tirx.Expr]) -> None:
        """Adds values times weights to 32 elements of 32 columns of the totals, rescaled."""
        b = self.b
        steps = KEYS // DEEP
        self._multiply(self.values_of, d, steps, lambda p, s: self.shares[(p * steps + s) * SIDE, _i(0)])
        for i, j, tile in SPOTS:
            amx.store(b, tile, tirx.address_of(self.made[_i(i * SIDE), _i(j * SIDE)]), BLOCK * 4)
        with b.serial(_i(BLOCK), "r") as r:
            for p in range(2):
                place = (self.worker, d + r, column + p * SIDE)
                held = load_vector(self.totals, *place, count=SIDE) * rescale[p]
                store_vector(b, self.totals, held + load_vector(self.made, r, _i(p * SIDE), count=SIDE), *place)

    def collect(self) -> None:
        """See Blocks.collect."""
        b, g, whole = self.b, self.g, self.chunks()[1]
        with b.serial(self.count, "chunk") as n, b.serial(_i(2), "p") as p:
            head, first, column = self.chunk(n, whole)
            row, at = b.let(first + as_expr(p, "int64") * SIDE), b.let(column + as_expr(p, "int64") * SIDE)
            count = self.end - self.start - row
            with b.serial(b.let(tirx.max(_i(0), tirx.min(count, _i(SIDE)))), "r") as r:
                spot = b.let((row + r) * g.each + head)
                b.store(self.state, (self.worker, spot, 1), self.running[self.worker, _i(1), at + r])
            with b.serial(_i(g.size // SIDE), "d") as d:
                rows = [load_vector(self.totals, self.worker, d * SIDE + r, at, count=SIDE) for r in range(SIDE)]
                for r, line in enumerate(turn(b, rows, SIDE)):
                    with b.when(count > r):
                        store_vector(b, self.out, line, self.spot((row + r) * g.each + head) + d * SIDE)

    def _multiply(self, left: tirx.Var, row: tirx.Expr, steps: int, right: Right) -> None:
        """Sums = 32 rows of `left` from `row` on times the two panels of 16 columns of right(panel, step)."""
        b, width = self.b, int(left.shape[-1]) * 4
        for _, _, tile in SPOTS:
            amx.zero(b, tile)
        with b.serial(_i(steps), "s") as s:
            s = as_expr(s, "int64")
            for j in range(2):
                amx.load(b, COLS[j], tirx.address_of(right(j, s)), ROW)
            for i in range(2):
                amx.load(b, ROWS[i], tirx.address_of(left[self.worker, row + i * SIDE, s * SIDE]), width)
                for j in range(2):
                    amx.multiply_bf16(b, SUMS[2 * i + j], ROWS[i], COLS[j])


SPOTS = [(i, j, SUMS[2 * i + j]) for i in range(2) for j in range(2)]


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
