"""Which rows of the cache a new row may see: the old ones within the window, the new ones that `seen` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from .builder import Builder
from .tensor import Index, as_expr

if TYPE_CHECKING:
    from .cached_attention import Geometry

INFINITY = float("inf")


def past_of(b: Builder, g: Geometry) -> tirx.Expr:
    """The number of old rows; such that whatever number is given, the new ones stay within the cache."""
    given, most = b.arg(g.call.need(4))[as_expr(0, "int64")], as_expr(g.capacity, "int64") - g.rows
    return b.let(tirx.max(as_expr(0, "int64"), tirx.min(given, most)), "past")


class Visible:
    """What the kernels ask about a row: the first key of the window, and a block's bounds on scores."""

    def __init__(self, b: Builder, g: Geometry) -> None:
        self.b, self.g = b, g
        self.past = past_of(b, g)
        self.positions, self.seen = b.arg(g.call.need(5)), b.arg(g.call.need(6))

    def first(self, start: tirx.Expr, end: tirx.Expr) -> tirx.Expr:
        """The first key that any of the rows [start, end) sees; at most the number of old rows."""
        b, g = self.b, self.g
        if not g.window:
            return as_expr(0, "int64")
        least = b.local((1,), "int64")
        b.store(least, 0, self.positions[start])
        with b.serial(end - start, "i", start=start) as i:
            b.store(least, 0, tirx.min(least[0], self.positions[i]))
        low = tirx.max(as_expr(0, "int64"), least[0] - (g.window - 1))
        return b.let(tirx.min(self.past, low), "first")

    def fill(
        self, bound: tirx.Var, at: Index, i: tirx.Expr, base: tirx.Expr, start: tirx.Expr, end: tirx.Expr, count: int,
        row: tuple = (),
    ) -> None:  # fmt: skip
        """bound[*row, at + u] for keys base + u: inf where row i sees it and it lies within [start, end), else -inf.

        The smaller of score and bound, taken in this order, is -inf for whatever lies in rows never written.
        """
        b, g, lanes = self.b, self.g, self.g.lanes
        old = tirx.all(start == base, end - base >= count, base + count <= self.past)
        with b.when(old), b.serial(count // lanes, "j") as j, b.vector(lanes) as v:
            value = as_expr(INFINITY)
            if g.window:
                key = base + (as_expr(j, "int64") * lanes + v)
                value = tirx.Select(self.positions[i] - key < g.window, as_expr(INFINITY), as_expr(-INFINITY))
            b.store(bound, (*row, at + j * lanes + v), value)
        with b.otherwise():
            self._some(bound, at, i, base, start, end, count, row)

    def _some(
        self, bound: tirx.Var, at: Index, i: tirx.Expr, base: tirx.Expr, start: tirx.Expr, end: tirx.Expr, count: int,
        row: tuple,
    ) -> None:  # fmt: skip
        """`fill` where not all of the keys are old rows."""
        b, g, lanes = self.b, self.g, self.g.lanes
        new = b.let(base - self.past, "new")
        whole = tirx.all(start == base, end - base >= count, new >= 0, new + count <= as_expr(g.rows, "int64"))
        with b.when(whole), b.serial(count // lanes, "j") as j, b.vector(lanes) as v:
            place = new + (as_expr(j, "int64") * lanes + v)
            inside = self.seen[i, place] != tirx.const(0, "uint8")
            if g.window:
                inside = tirx.all(inside, self.positions[i] - self.positions[place] < g.window)
            value = tirx.Select(inside, as_expr(INFINITY), as_expr(-INFINITY))
            b.store(bound, (*row, at + j * lanes + v), value)
        with b.otherwise(), b.serial(count, "u") as u:
            key = b.let(base + as_expr(u, "int64"), "key")
            new = b.let(tirx.max(as_expr(0, "int64"), tirx.min(key - self.past, as_expr(g.rows, "int64") - 1)), "new")
            known = tirx.any(key < self.past, self.seen[i, new] != tirx.const(0, "uint8"))
            inside = tirx.all(key >= start, key < end, known)
            if g.window:
                place = tirx.Select(key < self.past, key, self.positions[new])
                inside = tirx.all(inside, self.positions[i] - place < g.window)
            b.store(bound, (*row, at + u), tirx.Select(inside, as_expr(INFINITY), as_expr(-INFINITY)))
