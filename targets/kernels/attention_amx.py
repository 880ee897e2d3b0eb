"""The two products of an attention between bytes, in AMX's tiles (see amx.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from targets.target import Target

from . import amx
from .amx import ROW, SIDE, Steps
from .dot import QUAD
from .stage import Const
from .tensor import Index, as_expr

if TYPE_CHECKING:
    from .attention_integer import _Attention

SUMS, QUERIES, KEYS, CODES, VALUES = (0, 1, 2), (3, 4), 5, 6, 7
MOST = 2  # steps of a head


class AmxProducts:
    """16 queries at a time: their rows are tiles where they lie, as are rows of codes."""

    def __init__(self, a: _Attention) -> None:
        self.a, self.steps = a, amx.steps_of(a.width)

    @staticmethod
    def takes(target: Target, width: int, signed: bool) -> bool:
        """Whether heads of this size come out even in tiles."""
        steps = amx.steps_of(width)
        return target.tiles == "amx" and not signed and steps.count * steps.width == width and steps.count <= MOST

    def begin(self) -> None:
        """The tiles' shapes, for as many queries as there are in a block."""
        a, fixed = self.a, isinstance(self.a.height, int)
        heights = [a.rows] if fixed else list(range(1, SIDE + 1))
        table = a.b.arg(_table(self.steps, heights))
        amx.configure(a.b, table, _int(0) if fixed else a.height - 1)

    def end(self) -> None:
        """Gives the tiles back."""
        amx.release(self.a.b)

    def scores(self, first: tirx.Expr) -> None:
        """scores[row] = the sums of query `first` + row with every key, and behind them with ones."""
        a, b, steps = self.a, self.a.b, self.steps
        stride = a.width * (int(a.q.heads) if a.q.third else 1)
        for i in range(steps.count):
            address = tirx.address_of(a.q.buffer[a.q.at(a.n, a.h, first, _int(i * steps.width))])
            amx.load(b, QUERIES[i], address, stride)

        def panel(at: Index, column: tirx.Expr, sums: int) -> None:
            amx.zero(b, sums)
            for i in range(steps.count):
                amx.load(b, KEYS, tirx.address_of(a.s.keys[a.task, at, i * steps.width // QUAD, 0]), ROW)
                amx.multiply(b, sums, QUERIES[i], KEYS, False)
            self._store(sums, a.s.scores, column, as_expr(a.s.padded, "int64") + SIDE)

        with b.serial(_div(a.s.padded, a.group), "g") as g:
            for j in range(a.group // SIDE):
                at = b.let(as_expr(g, "int64") * (a.group // SIDE) + j)
                panel(at, at * SIDE, SUMS[j % len(SUMS)])
        if a.k_rest:
            panel(as_expr(_div(a.s.padded, SIDE), "int64"), as_expr(a.s.padded, "int64"), SUMS[-1])

    def context(self) -> None:
        """context[row] = the codes times the values."""
        a, b = self.a, self.a.b
        panels = a.columns // SIDE
        for start in range(0, panels, len(SUMS)):
            some = range(start, min(start + len(SUMS), panels))
            for panel in some:
                amx.zero(b, SUMS[panel - start])
            with b.serial(_div(a.s.padded, ROW), "g") as g:
                g = as_expr(g, "int64")
                codes = tirx.address_of(a.s.codes[a.task, 0, g * ROW])
                amx.load_by(b, CODES, codes, as_expr(a.s.padded, "int64"))
                for panel in some:
                    amx.load(b, VALUES, tirx.address_of(a.s.values[a.task, panel, g * SIDE, 0]), ROW)
                    amx.multiply(b, SUMS[panel - start], CODES, VALUES, False)
            for panel in some:
                self._store(SUMS[panel - start], a.s.context, _int(panel * SIDE), _int(a.columns))

    def _store(self, tile: int, buffer: tirx.Var, column: tirx.Expr, columns: tirx.Expr) -> None:
        """Sums to rows of `columns` int32."""
        amx.store_by(self.a.b, tile, tirx.address_of(buffer[self.a.task, 0, column]), columns * 4)


def _table(steps: Steps, heights: list[int]) -> Const:
    """[len(heights), 64] bytes: configurations for blocks of so many queries."""

    def make() -> np.ndarray:
        table = np.zeros((len(heights), ROW), np.uint8)
        table[:, 0] = 1  # the palette
        bytes_of, rows_of = table[:, 16:48].view(np.uint16), table[:, 48:]
        bytes_of[:, :8] = ROW
        bytes_of[:, list(QUERIES)] = steps.width
        rows_of[:, KEYS], rows_of[:, VALUES] = steps.width // QUAD, SIDE
        for i, height in enumerate(heights):
            rows_of[i, [*SUMS, *QUERIES, CODES]] = height
        return table

    key = f"amx:attention:{steps.width}:{','.join(map(str, heights))}"
    return Const((len(heights), ROW), "uint8", make, key, "tiles")


def _div(value: Index, by: int) -> Index:
    return value // by if isinstance(value, int) else tirx.truncdiv(value, _int(by))


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
