"""The first stage of cached attention: queries and keys turned by their positions, new rows written to the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from .cached_attention_format import KEY, VALUE
from .cached_attention_formats import format_of
from .cached_attention_visible import past_of
from .dot import load_vector, store_vector
from .loops import GRAIN, span
from .stage import Stage
from .tensor import as_expr

if TYPE_CHECKING:
    from .cached_attention import Geometry

from .builder import Builder


def rope_append(g: Geometry) -> Stage:
    """One task a row: q -> `g.queries` [groups, rows * heads of a group, size], scaled; k and v -> the cache."""
    call, size = g.call, g.size
    b = Builder(f"rope_append_{g.format}_d{size}_{g.target.isa}")
    work = (g.heads + 2 * g.groups) * size
    with b:
        q, k, v = (b.arg(call.need(i)) for i in range(3))
        past, positions = past_of(b, g), b.arg(call.need(5))
        queries = b.arg(g.queries)
        cache = format_of(b, call, size, g.lanes, past)
        with b.parallel(g.rows, max(1, GRAIN // work)) as i:
            rope = _Rope(b, g, positions[i])
            row = b.local((size,), "float32")
            with b.serial(as_expr(g.groups, "int64"), "group") as group:
                with b.serial(as_expr(g.each, "int64"), "head") as h:
                    rope.turn(q, i, (group * g.each + h) * size, row)
                    scale = tirx.Broadcast(tirx.const(g.scale, "float32"), g.lanes)
                    for d in range(0, size, g.lanes):
                        value = load_vector(row, as_expr(d), count=g.lanes) * scale
                        store_vector(b, queries, value, group, i * g.each + h, as_expr(d, "int64"))
                        cache.watch(group, h, past + i, as_expr(g.rows, "int64") - 1 - i, d, value)
                rope.turn(k, i, group * size, row)
                cache.write(KEY, group, past + i, row)
                for d in range(0, size, g.lanes):
                    store_vector(b, row, load_vector(v, i, group * size + d, count=g.lanes), as_expr(d))
                cache.mix(b, row, size, g.lanes)
                cache.write(VALUE, group, past + i, row)
    return b.stage()


class _Rope:
    """Rotary embedding (Su et al. 2021, arXiv:2104.09864) of one position, out of tables [positions, half]."""

    def __init__(self, b: Builder, g: Geometry, position: tirx.Expr) -> None:
        self.b, self.g = b, g
        cos, sin = g.call.need(7), g.call.need(8)
        last = as_expr(cos.shape[0], "int64") - 1
        self.at = b.let(tirx.max(as_expr(0, "int64"), tirx.min(position, last)), "position")
        self.cos, self.sin = b.arg(cos), b.arg(sin)

    def turn(self, source: tirx.Var, i: tirx.Expr, start: tirx.Expr, out: tirx.Var) -> None:
        """out[:] = source[i, start : start + size] turned."""
        b, g = self.b, self.g
        start = b.let(start, "start")
        half = g.rotary // 2
        if not g.interleaved:

            def pair(j: tirx.Expr) -> None:
                cos, sin = self.cos[self.at, as_expr(j)], self.sin[self.at, as_expr(j)]
                x, y = source[i, start + j], source[i, start + half + j]
                b.store(out, j, x * cos - y * sin)
                b.store(out, half + j, y * cos + x * sin)

            span(b, half, g.lanes, pair)
        else:
            whole = g.rotary // g.lanes * g.lanes
            for d in range(0, whole, g.lanes):
                self._pairs(source, i, start, d, out)
            if g.rotary > whole:
                with b.serial((g.rotary - whole) // 2, "j") as j:
                    at = whole // 2 + as_expr(j, "int64")
                    cos, sin = self.cos[self.at, at], self.sin[self.at, at]
                    x, y = source[i, start + 2 * at], source[i, start + 2 * at + 1]
                    b.store(out, 2 * at, x * cos - y * sin)
                    b.store(out, 2 * at + 1, y * cos + x * sin)
        rest = g.size - g.rotary
        if rest:
            span(b, rest, g.lanes, lambda j: b.store(out, g.rotary + j, source[i, start + g.rotary + j]))

    def _pairs(self, source: tirx.Var, i: tirx.Expr, start: tirx.Expr, d: int, out: tirx.Var) -> None:
        """A vector of neighbours that are turned together: x cos + (the other of the pair) (-sin, sin)."""
        b, lanes = self.b, self.g.lanes
        x = b.let(load_vector(source, i, start + d, count=lanes), "x")
        other = tirx.Shuffle([x], [as_expr(u ^ 1) for u in range(lanes)])
        twice = [as_expr(u // 2) for u in range(lanes)]
        halves = [
            b.let(load_vector(t, self.at, as_expr(d // 2, "int64"), count=lanes // 2), "table")
            for t in (self.cos, self.sin)
        ]
        cos, sin = (b.let(tirx.Shuffle([half, half], twice), "twice") for half in halves)
        minus = tirx.Broadcast(tirx.const(0.0, "float32"), lanes) - sin
        signed = tirx.Shuffle([minus, sin], [as_expr(u if u % 2 == 0 else lanes + u) for u in range(lanes)])
        store_vector(b, out, x * cos + other * signed, as_expr(d))
