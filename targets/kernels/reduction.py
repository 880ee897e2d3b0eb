"""Reductions: vectorised along the reduced axis or along the kept one, whichever is contiguous."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from tvm import tirx

from targets.target import Target

from .access import analyse
from .builder import Builder
from .loops import ceil_div, merge_axes, split, tasks
from .rows import cleared, fold, reduce_row, unrolling, widths
from .tensor import Index, Tensor, as_expr, product


def reduction_nest(b: Builder, t: Tensor, out: Tensor, target: Target) -> None:
    """Emits the reduction `t` and stores it in `out`."""
    Reducer(b, t, out, target).emit()


class Reducer:
    """One reduction being emitted into a kernel: its axes merged, its value at any of them, the store of a result."""

    def __init__(self, b: Builder, t: Tensor, out: Tensor, target: Target) -> None:
        assert t.reduction is not None
        self.b, self.t, self.r = b, t, t.reduction
        self.rank = t.ndim
        # a local of bfloat16 does not survive TVM's legalisation; every one of its values is a float32
        self.held = {"bool": "uint8", "bfloat16": "float32"}.get(t.dtype, t.dtype)
        self.lanes = target.lanes("float32" if self.held in ("uint8", "int8") else self.held)

        def whole(*i: tirx.Expr) -> tirx.Expr:
            value = as_expr(self.r.body(tuple(i[: self.rank]), tuple(i[self.rank :])), t.dtype)
            return value if self.r.finish is None else self.r.finish(value, *i[: self.rank])

        self.access = analyse(whole, [*t.shape, *self.r.extents])
        self.kept = merge_axes(self.access, range(self.rank))
        self.reduced = merge_axes(self.access, range(self.rank, self.rank + len(self.r.extents)))
        self.out = b.arg(out)

    def value(self, at: Sequence[Index], k: Sequence[Index]) -> tirx.Expr:
        """The reduced expression at merged indices, as it is held."""
        kept, reduced = self.kept.indices(at), self.reduced.indices(k)
        self.b.share([*kept, *reduced], [*self.t.shape, *self.r.extents])
        return as_expr(as_expr(self.r.body(tuple(kept), tuple(reduced)), self.t.dtype), self.held)

    def store(self, at: Sequence[Index], total: tirx.Expr) -> None:
        """Stores a result at merged indices."""
        indices = self.kept.indices(at)
        value = total if self.held == self.t.dtype else total.astype(self.t.dtype)
        if self.r.finish is not None:
            self.b.share(indices, self.t.shape)
            value = self.r.finish(value, *indices)
        self.b.store(self.out, indices, value)

    def work(self) -> int:
        """Elements that one result takes."""
        size = product(self.reduced.extents)
        return max(1, size) if isinstance(size, int) else 64

    def emit(self) -> None:
        """The whole reduction."""
        kept, reduced = self.kept, self.reduced
        if kept.extents and self.access.contiguous(kept.last(-1)):
            self.across()
        elif reduced.extents and self.access.contiguous(self.rank + reduced.last(-1)):
            self.along()
        else:
            with tasks(self.b, kept.extents, self.work()) as at:
                self.columns(at[:-1], at[-1] if at else 0, 1, 1)

    def along(self) -> None:
        """Vectors of partial results along the last reduced axis, combined at the end."""
        *outer, n = self.reduced.extents
        with tasks(self.b, self.kept.extents, self.work()) as at:
            total = reduce_row(
                self.b, self.r.kind, self.held, self.lanes, n, lambda *k: self.value(at, k), outer
            )  # fmt: skip
            self.store(at, total)

    def across(self) -> None:
        """Vectors along the last kept axis: each lane is one result."""
        *outer, n = self.kept.extents
        lanes = self.lanes
        size = unrolling(n, lanes) * lanes
        with tasks(self.b, [*outer, ceil_div(n, size)], self.work() * size) as at:
            start, place = at[-1] * size, at[:-1]
            if isinstance(n, int) and n % size == 0:
                self.columns(place, start, size // lanes, lanes)
                return
            with self.b.when(start + size <= as_expr(n, "int64")):
                self.columns(place, start, size // lanes, lanes)
            with self.b.otherwise():
                self.last_columns(place, start, n, size)

    def last_columns(self, place: list, start: Index, n: Index, size: int) -> None:
        """The columns after the last whole group of `size`."""
        b, lanes = self.b, self.lanes
        if isinstance(n, int):
            first: Index = n - n % size
            vectors, rest = split(n % size, lanes)
            self.columns(place, first, vectors, lanes)
            first += vectors * lanes
            for width in widths(rest, lanes):
                self.columns(place, first, 1, width)
                first += width
            return
        vectors, rest = split(n - start, lanes)
        with b.serial(vectors, "j") as j:
            self.columns(place, start + j * lanes, 1, lanes)
        with b.serial(rest, "r") as r:
            self.columns(place, start + vectors * lanes + r, 1, 1)

    def columns(self, place: list, start: Index, unroll: int, lanes: int) -> None:
        """`unroll` vectors of results from column `start` on."""
        if not unroll:
            return
        b, size = self.b, unroll * lanes
        acc = cleared(b, self.r.kind, self.held, size, lanes)

        def at(i: Index) -> list[Index]:
            return [*place, start + i] if self.kept.extents else []

        with ExitStack() as loops:
            k = [loops.enter_context(b.serial(e, "k")) for e in self.reduced.extents]
            with b.unroll(unroll) as u, b.vector(lanes) as v:
                fold(b, self.r.kind, acc, u * lanes + v, self.value(at(u * lanes + v), k))
        with b.unroll(unroll) as u, b.vector(lanes) as v:
            self.store(at(u * lanes + v), acc[u * lanes + v])
