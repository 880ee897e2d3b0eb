"""Rows that grow old go from the window into groups of few bits (cached_attention_grouped.py), before new ones come.

A scale spans somewhat less than a group's numbers do: the few that are cut off cost less than coarser steps for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import tirx

from .builder import Builder
from .cached_attention_format import KEY, VALUE, Vector, fold, whole
from .cached_attention_formats import format_of
from .cached_attention_grouped import GROUP, SINKS, WINDOW, Grouped
from .cached_attention_visible import past_of
from .dot import load_vector, store_vector
from .nibbles import splat
from .stage import Stage
from .tensor import as_expr

if TYPE_CHECKING:
    from .cached_attention import Geometry

TINY = 1e-30  # stands for a scale of zero where one divides by it


def fold_rows(g: Geometry) -> Stage:
    """One task: of every head of keys and values the rows that `folded` names, whole groups; most calls have none."""
    b = Builder(f"fold_rows_{g.format}_d{g.size}_{g.target.isa}")
    with b, b.parallel(1):
        cache = format_of(b, g.call, g.size, g.lanes, past_of(b, g))
        assert isinstance(cache, Grouped)
        count = b.let(tirx.truncdiv(cache.folded - cache.before, _i(GROUP)), "count")
        with b.when(count > 0), b.serial(as_expr(g.groups, "int64"), "group") as group:
            with b.serial(count, "n") as n:
                _Fold(b, cache, group, b.let(n * GROUP, "start")).all()
            with b.serial(_i(WINDOW - SINKS) - tirx.min(count * GROUP, _i(WINDOW - SINKS)), "row") as row:
                to = b.let(row + SINKS, "to")
                for kv in (KEY, VALUE):
                    for d in range(0, g.size, g.lanes):
                        moved = load_vector(
                            cache.buffers[0], *cache.at(kv, group, to + count * GROUP, d), count=g.lanes
                        )
                        store_vector(b, cache.buffers[0], moved, *cache.at(kv, group, to, d))
    return b.stage()


class _Fold:
    """GROUP rows of one head, from row `start` of the window behind its first ones on."""

    def __init__(self, b: Builder, cache: Grouped, group: tirx.Expr, start: tirx.Expr) -> None:
        self.b, self.cache, self.group, self.lanes = b, cache, group, cache.lanes
        # rows that are not there are not read, whatever `folded` says
        self.source = b.let(tirx.min(start + SINKS, _i(WINDOW - GROUP)), "source")
        self.target = b.let(cache.before + start, "target")
        self.per = 8 // cache.bits  # rows that share a byte
        self.span = cache.span_of(cache.size)

    def all(self) -> None:
        """Keys, then values."""
        b, cache, lanes = self.b, self.cache, self.lanes
        with b.serial(_i(cache.size // lanes), "c") as c:
            self.keys(b.let(c * lanes, "d"))
        with b.serial(_i(GROUP // self.per), "run") as run, b.serial(_i(cache.size // self.span), "span") as span:
            self.values(b.let(run * self.per, "row"), span)

    def keys(self, d: tirx.Expr) -> None:
        """Channels d to d + lanes."""
        b, lanes, cache = self.b, self.lanes, self.cache
        ends = b.local((2 * lanes,), "float32")
        first = b.let(self.row(KEY, _i(0), d), "first")
        for at in (0, lanes):
            store_vector(b, ends, first, as_expr(at))
        with b.serial(_i(GROUP), "row") as row:
            value = b.let(self.row(KEY, row, d), "value")
            for at, pick in ((0, tirx.min), (lanes, tirx.max)):
                store_vector(b, ends, pick(load_vector(ends, as_expr(at), count=lanes), value), as_expr(at))
        low, high = (load_vector(ends, as_expr(at), count=lanes) for at in (0, lanes))
        scale, least = self.factors(low, high, lambda value: tirx.Broadcast(value, lanes), lanes)
        place = cache.at(0, self.group, self.target)
        for part, factor in ((0, scale), (cache.size, least)):
            store_vector(b, cache.buffers[2], factor.astype(f"float16x{lanes}"), *place, d + part)
        over = b.let(splat(1.0, "float32", lanes) / tirx.max(scale, splat(TINY, "float32", lanes)), "over")
        with b.serial(_i(GROUP // self.per), "run") as run:
            codes = [self.code(self.row(KEY, run * self.per + u, d), least, over) for u in range(self.per)]
            self.pack(KEY, run * self.per, d, codes)

    def values(self, row: tirx.Expr, span: tirx.Expr) -> None:
        """A span of the rows that share bytes, from `row` on."""
        b, lanes, cache = self.b, self.lanes, self.cache
        start = b.let(span * self.span, "start")
        pairs = []
        for u in range(self.per):
            parts = [self.row(VALUE, row + u, start + d) for d in range(0, self.span, lanes)]
            low, high = (b.keep(fold(b, parts, lanes, pick)) for pick in (tirx.min, tirx.max))
            scale, least = self.factors(low, high, lambda value: value, 1)
            place = cache.at(0, self.group, self.target + row + u, span * 2)
            for part, factor in ((0, scale), (1, least)):
                b.store(cache.buffers[3], (*place[:-1], place[-1] + part), factor)
            over = b.let(as_expr(1.0) / tirx.max(scale, as_expr(TINY)), "over")
            pairs.append([tirx.Broadcast(least, lanes), tirx.Broadcast(over, lanes)])
        for d in range(0, self.span, lanes):
            codes = [self.code(self.row(VALUE, row + u, start + d), *pairs[u]) for u in range(self.per)]
            self.pack(VALUE, row, start + d, codes)

    def row(self, kv: int, row: tirx.Expr, d: tirx.Expr) -> Vector:
        """Elements from d on of a row that is folded."""
        place = self.cache.at(kv, self.group, self.source + row, d)
        return load_vector(self.cache.buffers[0], *place, count=self.lanes).astype(f"float32x{self.lanes}")

    def factors(
        self, low: tirx.Expr, high: tirx.Expr, wide: Callable[[tirx.Expr], tirx.Expr], lanes: int
    ) -> tuple[tirx.Expr, tirx.Expr]:
        """Scale and least value, as float16 has them."""
        b, cache, half = self.b, self.cache, "float16" if lanes == 1 else f"float16x{lanes}"
        full = half.replace("16", "32", 1)
        length = b.let(high - low, "length")
        cut = (1 - cache.kept) / 2
        least = low + length * wide(as_expr(float(cut)))
        scale = length * wide(as_expr(float(cache.kept / (2**cache.bits - 1))))
        return tuple(b.let(x.astype(half).astype(full), "factor") for x in (scale, least))

    def code(self, value: Vector, least: Vector, over: Vector) -> Vector:
        """The code of each element, as int32."""
        return whole((value - least) * over, 0, 2**self.cache.bits - 1, self.lanes)

    def pack(self, kv: int, row: tirx.Expr, d: tirx.Expr, codes: list[Vector]) -> None:
        """Stores the codes of the rows that share bytes."""
        lanes, bits = self.lanes, self.cache.bits
        byte = codes[0]
        for u, code in enumerate(codes[1:], 1):
            byte = byte | tirx.shift_left(code, splat(bits * u, "int32", lanes))
        place = self.cache.at(kv, self.group, self.target + row, d)
        store_vector(self.b, self.cache.buffers[1], byte.astype(f"uint8x{lanes}"), *place)


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
