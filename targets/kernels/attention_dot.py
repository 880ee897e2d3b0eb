"""The two products of an attention between bytes, in vector registers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tvm import tirx

from .attention_operands import keys_of, values_of, word_at
from .dot import QUAD, load_vector, load_word, store_vector
from .tensor import Index, as_expr

if TYPE_CHECKING:
    from .attention_integer import _Attention

UNROLL = 4  # quads written out in one turn


class DotProducts:
    """Tiles of `tall` rows by `wide` vectors. Rows beyond the last query repeat it; nobody reads them."""

    def __init__(self, a: _Attention) -> None:
        self.a = a
        self.wide = 2
        spare = a.target.registers - (self.wide + 1) * a.dot.registers - 1
        self.tall = max(1, min(8, spare // self.wide))

    def begin(self) -> None:
        """Nothing to set up."""

    def end(self) -> None:
        """Nor to take down."""

    def scores(self, first: tirx.Expr) -> None:
        """scores[row] = the sums of query `first` + row with every key, and behind them with ones."""
        a, b = self.a, self.a.b
        last = as_expr(a.q.length, "int64") - 1
        quads = -(-a.width // QUAD)
        panels = _div(a.s.padded, a.lanes)
        for start in range(0, a.rows, self.tall):
            count = min(self.tall, a.rows - start)
            rows = [b.let(tirx.min(first + (start + i), last)) for i in range(count)]

            def left(i: int, quad: Index) -> tirx.Expr:
                known = QUAD if not isinstance(quad, int) else min(QUAD, a.width - quad * QUAD)
                return word_at(a.q.buffer, a.q.at(a.n, a.h, rows[i], as_expr(quad, "int64") * QUAD), known)  # noqa: B023

            def tile(panel: tirx.Expr, wide: int) -> None:
                acc = self._cleared(len(rows), wide)  # noqa: B023
                for quad in range(quads):
                    read, keys = partial(left, quad=quad), partial(keys_of, a, quad=quad)
                    self._step(acc, len(rows), wide, read, lambda j: keys(panel=panel + j), a.signed)  # noqa: B023
                for i in range(len(rows)):  # noqa: B023
                    for j in range(wide):
                        total = load_vector(acc, *_place(i, j * a.lanes), count=a.lanes)
                        store_vector(b, a.s.scores, total, a.task, _int(start + i), (panel + j) * a.lanes)  # noqa: B023

            with b.serial(_div(a.s.padded, a.lanes * self.wide), "panel") as panel:
                tile(as_expr(panel, "int64") * self.wide, self.wide)
            if a.k_rest:
                tile(as_expr(panels, "int64"), 1)

    def context(self) -> None:
        """context[row] = the codes times the values."""
        a, b = self.a, self.a.b
        turns = _div(a.s.padded, QUAD * UNROLL)
        panels = a.columns // a.lanes
        for start in range(0, a.rows, self.tall):
            count = min(self.tall, a.rows - start)
            for panel in range(0, panels, self.wide):
                wide = min(self.wide, panels - panel)
                acc = self._cleared(count, wide)
                with b.serial(turns, "q") as q:
                    for u in range(UNROLL):
                        quad = as_expr(q, "int64") * UNROLL + u
                        self._step(
                            acc, count, wide,
                            lambda i: load_word(a.s.codes, a.task, _int(start + i), quad * QUAD),  # noqa: B023
                            lambda j: values_of(a, panel + j, quad), False,  # noqa: B023
                        )  # fmt: skip
                for i in range(count):
                    for j in range(wide):
                        total = load_vector(acc, *_place(i, j * a.lanes), count=a.lanes)
                        store_vector(b, a.s.context, total, a.task, _int(start + i), _int((panel + j) * a.lanes))

    def _cleared(self, rows: int, wide: int) -> tirx.Var:
        acc = self.a.b.local((rows, wide * self.a.lanes), "int32")
        for i in range(rows):
            for j in range(wide):
                zero = tirx.Broadcast(tirx.const(0, "int32"), self.a.lanes)
                store_vector(self.a.b, acc, zero, *_place(i, j * self.a.lanes))
        return acc

    def _step(
        self, acc: tirx.Var, rows: int, wide: int, left: Callable[[int], tirx.Expr],
        right: Callable[[int], tirx.Expr], signed: bool,
    ) -> None:  # fmt: skip
        """One quad of the reduction."""
        b, dot, lanes = self.a.b, self.a.dot, self.a.lanes
        here = [[b.let(v) for v in dot.right(b.let(right(j)))] for j in range(wide)]
        for i in range(rows):
            there = tuple(b.let(v) for v in dot.left(b.let(left(i)), signed))
            for j in range(wide):
                place = _place(i, j * lanes)
                store_vector(b, acc, dot.add(load_vector(acc, *place, count=lanes), there, tuple(here[j])), *place)


def _place(i: int, j: int) -> tuple[tirx.Expr, tirx.Expr]:
    return tirx.const(i, "int32"), tirx.const(j, "int32")


def _div(value: Index, by: int) -> Index:
    return value // by if isinstance(value, int) else tirx.truncdiv(value, _int(by))


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
