"""A small matrix of sums in a work item's registers: some rows of one vector of columns each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from tvm import tirx

from targets.gpu import Gpu

from ..registry import Call
from ..stage import Const
from ..storage import as_halves
from ..tensor import Index, as_expr
from .grid import Grid


class Tile:
    """`rows` rows of `cols` columns, all zero at first."""

    def __init__(self, b: Grid, rows: int, cols: int, dtype: str = "float32") -> None:
        self.b, self.rows, self.cols = b, rows, cols
        self.sums = b.local((rows * cols,), dtype)
        with b.unroll(rows) as r, b.vector(cols) as v:
            b.store(self.sums, r * cols + v, tirx.const(0, dtype))

    def vector(self, load: Callable[[Index], tirx.Expr], whole: bool) -> tirx.Var:
        """A row of `cols` values; whole: they lie side by side, and are loaded at once."""
        b = self.b
        first = load(0)
        if whole:
            return loaded(b, first, self.cols)
        held = b.local((self.cols,), str(first.ty.dtype))
        for c in range(self.cols):
            b.store(held, c, load(c))
        return held

    def add(self, row: int, left: tirx.Expr, right: tirx.Var) -> None:
        """Adds left * right to a row."""
        b = self.b
        with b.vector(self.cols) as v:
            at = row * self.cols + v
            b.store(self.sums, at, self.sums[at] + left * right[v])

    def multiply_add(self, row: int, left: tirx.Var, right: tirx.Var) -> None:
        """Adds left * right, element by element, to a row."""
        b = self.b
        with b.vector(self.cols) as v:
            at = row * self.cols + v
            b.store(self.sums, at, self.sums[at] + left[v] * right[v])

    def finish(
        self, call: Call, place: Callable[[int, Index], Sequence[Index]], rows: Sequence[tirx.Expr | None],
        cols: Callable[[Index], tirx.Expr] | None,
    ) -> None:  # fmt: skip
        """Stores every sum through the call's tail. place: the result's indices of (row, column) of the tile.

        rows: the condition under which a row is stored, None for always; cols: the same of a column.
        """
        b, out = self.b, self.b.arg(call.result)

        def store(r: int, c: Index) -> None:
            value = b.let(self.sums[as_expr(r * self.cols + c)])
            b.bind(call.outputs[0], lambda *_: value)
            at = [as_expr(i) for i in place(r, c)]
            b.share(at, call.result.shape)
            b.store(out, at, call.final(*at))

        def where(condition: tirx.Expr | None) -> AbstractContextManager[None]:
            return nullcontext() if condition is None else b.when(condition)

        # one by one: of what a tail may do with vectors, TVM's generator gets truth values wrong (1 for -1)
        for r in range(self.rows):
            with where(rows[r]):
                for c in range(self.cols):
                    with where(None if cols is None else cols(c)):
                        store(r, c)


def loaded(b: Grid, first: tirx.Expr, count: int) -> tirx.Var:
    """A local of the `count` elements of which that load is the first."""
    held = b.local((count,), str(first.ty.dtype))
    if count == 1 or not b.pointers:
        load = first.value if isinstance(first, tirx.Cast) else first
        for c in range(count):
            element = load.source[(*load.indices[:-1], load.indices[-1] + c)]
            b.store(held, c, element.astype(str(first.ty.dtype)))
    else:
        vector = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), count)
        b.emit(tirx.BufferStore(held, side_by_side(first, count), [vector]))
    return held


def side_by_side(first: tirx.Expr, count: int) -> tirx.Expr:
    """The vector of `count` elements of which that load is the first; halves are floats then."""
    # by name: TVM's generator makes vector loads only of addresses it can prove to be aligned
    halves = isinstance(first, tirx.Cast)
    name, element = ("vload_half", first.value) if halves else ("vload", first)
    return tirx.call_pure_extern(f"{first.ty.dtype}x{count}", f"{name}{count}", 0, tirx.address_of(element))


def packed(target: Gpu, shape: tuple[int, ...], make: Callable[[], np.ndarray], key: str, name: str) -> Const:
    """Weights as the target stores them; `make` gives them as float32."""
    if not target.stores_half(name, math.prod(shape)):
        return Const(shape, "float32", make, key, name)
    return Const(shape, "float16", lambda: as_halves(make()), f"{key}.half", name)


def rows_of(extent: Index, target: Gpu) -> int:
    """Rows of a tile for so many in all."""
    return min(target.tile, extent) if isinstance(extent, int) else target.tile


def kept(b: Grid, first: tirx.Expr, count: int, extent: Index) -> tuple[list[tirx.Expr], list[tirx.Expr | None]]:
    """Positions first..first+count-1, held below `extent`, and the condition that each is by itself (None: surely)."""
    if isinstance(extent, int) and extent % count == 0:
        return [first + i for i in range(count)], [None] * count
    last = as_expr(extent, str(first.ty.dtype)) - 1
    inside = [None if i == 0 else first + i <= last for i in range(count)]
    return [first, *(b.let(tirx.min(first + i, last)) for i in range(1, count))], inside
