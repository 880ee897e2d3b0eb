"""Many rows over the cache on AMX: cached_attention_prefill.py's blocks, multiplied in bfloat16 tiles.

Queries, keys, weights and values are rounded to bfloat16 (8 bits of mantissa); scores, running sums and the result stay
float32. Pairs in a tile's lanes are of elements 16 apart, of both sides alike, so that no vector has to be interleaved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from . import amx
from .aligned import vector_local
from .amx import BLOCK, COLS, ROW, ROWS, SIDE, SUMS
from .bf16 import pairs
from .cached_attention_format import KEY, VALUE
from .cached_attention_prefill import WORKERS, Blocks
from .dot import load_vector, store_vector
from .lanes import turn
from .nibbles import splat
from .stage import Temp
from .tensor import as_expr

if TYPE_CHECKING:
    from .builder import Builder
    from .cached_attention import Geometry

LEAST = BLOCK  # rows: fewer have the bits that each alone gets, but for the order of sums
DEEP = 2 * SIDE  # elements of a reduction that a tile takes


def takes(g: Geometry) -> bool:
    """Whether the target has tiles, and heads fill them."""
    return g.target.tiles == "amx" and g.size % DEEP == 0


class TileBlocks(Blocks):
    """Products in tiles, 32 rows at a time."""

    step = BLOCK

    def __init__(self, b: Builder, g: Geometry) -> None:
        super().__init__(b, g)
        amx.configure(b, b.arg(amx.configurations(ROW, [(SIDE, SIDE)])), 0)

    def scratch(self, tall: int) -> None:
        """See Blocks.scratch. Of keys and values whole tiles, [column panel][step of the reduction]."""
        b, g = self.b, self.g
        self.keys = 64
        self.turned = b.arg(Temp((WORKERS, self.keys // SIDE, g.size // DEEP, SIDE, SIDE), "uint32", "turned_keys"))
        self.values = b.arg(Temp((WORKERS, g.size // SIDE, self.keys // DEEP, SIDE, SIDE), "uint32", "values"))
        self.rows = b.arg(Temp((WORKERS, tall, g.size // 2), "uint32", "rows"))
        self.shares = b.arg(Temp((WORKERS, tall, self.keys // 2), "uint32", "shares"))
        self.made = vector_local(b, (BLOCK, BLOCK), "float32")

    def finish(self) -> None:
        """See Blocks.finish."""
        amx.release(self.b)

    def begin(self) -> None:
        """The block's queries as bfloat16."""
        b = self.b
        with b.serial(self.height, "row") as row:
            query = b.let(self.start * self.g.each + row, "query")
            for d in range(0, self.g.size, DEEP):
                parts = [load_vector(self.queries, self.group, query, _i(d + i), count=SIDE) for i in (0, SIDE)]
                store_vector(b, self.rows, pairs(*parts), self.worker, row, _i(d // 2))

    def attend(self, base: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """See Blocks.attend."""
        b = self.b
        self.read_keys(base)
        self.read_values(base, low, high)
        with b.serial(self.tiles, "tile") as tile:
            row = b.let(tile * BLOCK, "row")
            self.products(row)
            count = b.let(tirx.min(_i(BLOCK), self.height - row), "count")
            with b.serial(count, "r") as r:
                self.softmax(row + r, base)
                for t in range(0, self.keys, DEEP):
                    parts = [load_vector(self.weights, self.worker, row + r, _i(t + i), count=SIDE) for i in (0, SIDE)]
                    store_vector(b, self.shares, pairs(*parts), self.worker, row + r, _i(t // 2))
            with b.serial(_i(self.g.size // BLOCK), "c") as c:
                self.add(row, count, as_expr(c, "int64"))

    def read_keys(self, base: tirx.Expr) -> None:
        """The block's keys as right tiles: a row holds a pair of elements of 16 keys."""
        b = self.b
        with b.serial(_i(self.keys // SIDE), "k") as k, b.serial(_i(self.g.size // DEEP), "d") as d:
            rows = []
            for u in range(SIDE):
                key = base + k * SIDE + u
                both = pairs(*(self.cache.read(KEY, self.group, key, d * DEEP, c) for c in (0, 1)))
                rows.append(tirx.reinterpret(f"float32x{SIDE}", both))
            for i, column in enumerate(turn(b, rows, SIDE)):
                held = tirx.reinterpret(f"uint32x{SIDE}", column)
                store_vector(b, self.turned, held, self.worker, k, d, _i(i), _i(0))

    def read_values(self, base: tirx.Expr, low: tirx.Expr, high: tirx.Expr) -> None:
        """The block's values as right tiles: a row holds 16 elements of a pair of keys. Zeros outside [low, high)."""
        b = self.b
        zero = splat(0.0, "float32", SIDE)
        with b.serial(_i(self.keys // DEEP), "k") as k, b.serial(_i(SIDE), "r") as r:
            places = [b.let(k * DEEP + r + i, "key") for i in (0, SIDE)]
            known = [tirx.Broadcast(b.let(tirx.all(at >= low, at < high)), SIDE) for at in places]
            with b.serial(_i(self.g.size // DEEP), "d") as d:
                for c in (0, 1):
                    parts = [
                        tirx.Select(there, self.cache.read(VALUE, self.group, base + at, d * DEEP, c), zero)
                        for at, there in zip(places, known, strict=True)
                    ]
                    store_vector(b, self.values, pairs(*parts), self.worker, d * 2 + c, k, r, _i(0))

    def products(self, row: tirx.Expr) -> None:
        """weights[row : row + 32] = queries times keys."""
        b = self.b
        with b.serial(_i(self.keys // BLOCK), "k") as k:
            self._multiply(self.rows, row, self.turned, as_expr(k, "int64") * 2, self.g.size // DEEP)
            for i, j, tile in SPOTS:
                at = tirx.address_of(self.weights[self.worker, row + i * SIDE, k * BLOCK + j * SIDE])
                amx.store(b, tile, at, self.keys * 4)

    def add(self, row: tirx.Expr, count: tirx.Expr, c: tirx.Expr) -> None:
        """Adds weights times values to 32 elements of `count` rows of the result, rescaled."""
        b = self.b
        self._multiply(self.shares, row, self.values, c * 2, self.keys // DEEP)
        for i, j, tile in SPOTS:
            amx.store(b, tile, tirx.address_of(self.made[_i(i * SIDE), _i(j * SIDE)]), BLOCK * 4)
        with b.serial(count, "r") as r:
            place = b.let(self.spot(row + r) + c * BLOCK, "out")
            rescale = tirx.Broadcast(b.let(self.state[self.worker, row + r, _i(2)], "rescale"), SIDE)
            for j in (0, SIDE):
                held = load_vector(self.out, place + j, count=SIDE)
                added = load_vector(self.made, r, _i(j), count=SIDE)
                store_vector(b, self.out, held * rescale + added, place + j)

    def _multiply(self, left: tirx.Var, row: tirx.Expr, right: tirx.Var, panel: tirx.Expr, steps: int) -> None:
        """Sums = 32 rows of `left` from `row` on times two panels of `right`."""
        b, width = self.b, int(left.shape[-1]) * 4
        for _, _, tile in SPOTS:
            amx.zero(b, tile)
        with b.serial(_i(steps), "s") as s:
            for j in range(2):
                amx.load(b, COLS[j], tirx.address_of(right[self.worker, panel + j, s, _i(0), _i(0)]), ROW)
            for i in range(2):
                amx.load(b, ROWS[i], tirx.address_of(left[self.worker, row + i * SIDE, s * SIDE]), width)
                for j in range(2):
                    amx.multiply_bf16(b, SUMS[2 * i + j], ROWS[i], COLS[j])


SPOTS = [(i, j, SUMS[2 * i + j]) for i in range(2) for j in range(2)]


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
