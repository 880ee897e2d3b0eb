"""Reductions: vectorised along the reduced axis or along the kept one, whichever is contiguous."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tvm import tirx

from targets.target import Target

from .access import Access, analyse
from .builder import Builder
from .loops import Axes, ceil_div, merge_axes, span, split, tasks
from .tensor import Index, Reduction, Tensor, as_expr, product

UNROLL = 4  # accumulators: enough to hide the latency of an addition
BLOCK = 64  # vectors per accumulator before a float sum goes to the next level, which keeps rounding errors small


def combine(kind: str, a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """One step of a reduction on values as they are held (a bool as 0 or 1 in a byte)."""
    if kind == "sum":
        return a + b
    if kind == "prod":
        return a * b
    if kind == "any":
        return a | b
    if kind == "all":
        return a & b
    if not _is_float(str(b.ty.dtype)):
        return tirx.max(a, b) if kind == "max" else tirx.min(a, b)
    better = b > a if kind == "max" else b < a
    return tirx.Select(tirx.Or(better, _is_nan(b)), b, a)  # a NaN wins, as in numpy


def _is_nan(x: tirx.Expr) -> tirx.Expr:
    """By its bits: TVM simplifies x != x, and its isnan does not vectorise."""
    dtype = str(x.ty.dtype)
    if dtype == "bfloat16":
        return _is_nan(x.astype("float32"))
    bits, infinity = {"float16": (16, 0x7C00), "float32": (32, 0x7F800000), "float64": (64, 0x7FF0000000000000)}[dtype]
    whole = tirx.reinterpret(f"int{bits}", x)
    return (whole & tirx.const((1 << (bits - 1)) - 1, f"int{bits}")) > tirx.const(infinity, f"int{bits}")


def identity(kind: str, dtype: str) -> tirx.Expr:
    """The neutral element."""
    if kind in ("max", "min") and _is_float(dtype):
        return tirx.const(-float("inf") if kind == "max" else float("inf"), dtype)
    if kind == "max":
        return tirx.min_value(dtype)
    if kind == "min":
        return tirx.max_value(dtype)
    return tirx.const(1 if kind in ("prod", "all") else 0, dtype)


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def reduction_nest(b: Builder, t: Tensor, out: Tensor, target: Target) -> None:
    """Emits the reduction `t` and stores it in `out`."""
    _Reduction(b, t, out, target).emit()


class _Reduction:
    def __init__(self, b: Builder, t: Tensor, out: Tensor, target: Target) -> None:
        assert t.reduction is not None
        self.b, self.t, self.r = b, t, t.reduction
        self.rank = t.ndim
        self.held = "uint8" if t.dtype == "bool" else t.dtype
        self.lanes = max(target.lanes("float32") if self.held in ("uint8", "int8") else target.lanes(self.held), 1)
        access = self._analyse(self.r)
        self.kept = merge_axes(access, range(self.rank))
        self.reduced = merge_axes(access, range(self.rank, self.rank + len(self.r.extents)))
        self.access = access
        self.out = b.arg(out)

    def _analyse(self, r: Reduction) -> Access:
        def whole(*i: tirx.Expr) -> tirx.Expr:
            value = as_expr(r.body(tuple(i[: self.rank]), tuple(i[self.rank :])), self.t.dtype)
            return value if r.finish is None else r.finish(value, *i[: self.rank])

        return analyse(whole, [*self.t.shape, *r.extents])

    # ---- pieces ---------------------------------------------------------------------------------------------------
    def value(self, at: Sequence[Index], k: Sequence[Index]) -> tirx.Expr:
        """The reduced expression at merged indices, as it is held."""
        kept, reduced = self.kept.indices(at), self.reduced.indices(k)
        self.b.share([*kept, *reduced], [*self.t.shape, *self.r.extents])
        return as_expr(as_expr(self.r.body(tuple(kept), tuple(reduced)), self.t.dtype), self.held)

    def fold(self, acc: tirx.Var, place: Index, value: tirx.Expr) -> None:
        b = self.b
        b.store(acc, place, combine(self.r.kind, b.let(acc[as_expr(place)], "a"), b.let(value, "x")))

    def fresh(self, count: int, lanes: int = 1) -> tirx.Var:
        """Accumulators, cleared."""
        acc = self.b.local((count,), self.held)
        self.clear(acc, count, lanes)
        return acc

    def clear(self, acc: tirx.Var, count: int, lanes: int) -> None:
        span(self.b, count, lanes, lambda i: self.b.store(acc, i, identity(self.r.kind, self.held)))

    def store(self, at: Sequence[Index], total: tirx.Expr) -> None:
        indices = self.kept.indices(at)
        value = total.astype("bool") if self.t.dtype == "bool" else total
        if self.r.finish is not None:
            self.b.share(indices, self.t.shape)
            value = self.r.finish(value, *indices)
        self.b.store(self.out, indices, value)

    @contextmanager
    def loops(self, extents: Sequence[Index]) -> Iterator[list[tirx.Expr]]:
        with ExitStack() as stack:
            yield [stack.enter_context(self.b.serial(e, "k")) for e in extents]

    # ---- the three ways -------------------------------------------------------------------------------------------
    def emit(self) -> None:
        kept, reduced = self.kept, self.reduced
        if kept.extents and self.access.contiguous(kept.last(-1)):
            self.across()
        elif reduced.extents and self.access.contiguous(self.rank + reduced.last(-1)):
            self.along()
        else:
            with tasks(self.b, kept.extents, self.work()) as at:
                acc = self.fresh(1)
                with self.loops(reduced.extents) as k:
                    self.fold(acc, 0, self.value(at, k))
                self.store(at, acc[0])

    def work(self) -> int:
        size = product(self.reduced.extents)
        return max(1, size) if isinstance(size, int) else 64

    def along(self) -> None:
        """Vectors of partial results along the last reduced axis, combined at the end."""
        *outer, n = self.reduced.extents
        lanes = self.lanes
        unroll = UNROLL if not isinstance(n, int) or n >= UNROLL * lanes else max(1, n // lanes)
        with tasks(self.b, self.kept.extents, self.work()) as at:
            main = self.fresh(unroll * lanes, lanes) if not isinstance(n, int) or n >= lanes else None
            whole, rest = split(n, unroll * lanes)
            vectors, rest = split(rest, lanes)
            parts = _widths(rest, lanes) if isinstance(rest, int) else [1]
            narrow = [self.fresh(w, w) for w in parts]
            with self.loops(outer) as k:

                def step(acc: tirx.Var, place: Index, position: Index) -> None:
                    self.fold(acc, place, self.value(at, [*k, position]))

                if main is not None:
                    self.blocks(main, unroll, whole, step)
                    with self.b.serial(vectors, "j") as j, self.b.vector(lanes) as v:
                        step(main, v, whole * (unroll * lanes) + j * lanes + v)
                start = whole * (unroll * lanes) + vectors * lanes
                if isinstance(rest, int):
                    for width, acc in zip(parts, narrow, strict=True):
                        with self.b.vector(width) as v:
                            step(acc, v, start + v)
                        start = start + width
                else:
                    with self.b.serial(rest, "r") as i:
                        step(narrow[0], 0, start + i)
            halves = [(main, unroll * lanes)] if main is not None else []
            for acc, width in [*halves, *zip(narrow, parts, strict=True)]:
                self.shrink(acc, width)
            every = [acc for acc, _ in halves] + narrow or [self.fresh(1)]  # neither: nothing to reduce
            for acc in every[1:]:
                self.fold(every[0], 0, acc[0])
            self.store(at, every[0][0])

    def blocks(self, main: tirx.Var, unroll: int, whole: Index, step: Callable) -> None:
        """The unrolled part; a long float sum in blocks, each added to the total when it is done."""
        b, lanes = self.b, self.lanes

        def chunk(acc: tirx.Var, j: Index) -> None:
            with b.unroll(unroll) as u, b.vector(lanes) as v:
                step(acc, u * lanes + v, (j * unroll + u) * lanes + v)

        done = 0
        if self.r.kind == "sum" and _is_float(self.held) and isinstance(whole, int) and whole >= 2 * BLOCK:
            done = whole // BLOCK
            with b.serial(done, "block") as block:
                partial = self.fresh(unroll * lanes, lanes)
                with b.serial(BLOCK, "j") as j:
                    chunk(partial, block * BLOCK + j)
                with b.unroll(unroll) as u, b.vector(lanes) as v:
                    self.fold(main, u * lanes + v, partial[u * lanes + v])
        with b.serial(whole - done * BLOCK, "j") as j:
            chunk(main, done * BLOCK + j)

    def shrink(self, acc: tirx.Var, width: int) -> None:
        """Folds `width` accumulators into acc[0], halving."""
        count = width // self.lanes  # not always a power of two
        for u in range(1, count):
            with self.b.vector(self.lanes) as v:
                self.fold(acc, v, acc[u * self.lanes + v])
        half = min(width, self.lanes) // 2
        while half:
            with self.b.vector(half) as v:
                self.fold(acc, v, acc[half + v])
            half //= 2

    def across(self) -> None:
        """Vectors along the last kept axis: each lane is one result."""
        *outer, n = self.kept.extents
        lanes = self.lanes
        unroll = UNROLL if not isinstance(n, int) or n >= UNROLL * lanes else max(1, n // lanes)
        size = unroll * lanes
        with tasks(self.b, [*outer, ceil_div(n, size)], self.work() * size) as at:
            start = at[-1] * size if n != size else as_expr(0, "int64")
            place = at[:-1]
            if isinstance(n, int) and n % size == 0:
                self.columns(place, start, unroll, lanes)
                return
            with self.b.when(start + size <= as_expr(n, "int64")):
                self.columns(place, start, unroll, lanes)
            with self.b.otherwise():
                if isinstance(n, int):
                    first: Index = n - n % size
                    vectors, rest = split(n % size, lanes)
                    self.columns(place, first, vectors, lanes)
                    first += vectors * lanes
                    for width in _widths(rest, lanes):
                        self.columns(place, first, 1, width)
                        first += width
                else:
                    vectors, rest = split(n - start, lanes)
                    with self.b.serial(vectors, "j") as j:
                        self.columns(place, start + j * lanes, 1, lanes)
                    with self.b.serial(rest, "r") as r:
                        self.columns(place, start + vectors * lanes + r, 1, 1)

    def columns(self, place: list, start: Index, unroll: int, lanes: int) -> None:
        """`unroll` vectors of results from column `start` on."""
        if not unroll:
            return
        b = self.b
        acc = self.fresh(unroll * lanes, lanes)
        with self.loops(self.reduced.extents) as k, b.unroll(unroll) as u, b.vector(lanes) as v:
            self.fold(acc, u * lanes + v, self.value([*place, start + u * lanes + v], k))
        with b.unroll(unroll) as u, b.vector(lanes) as v:
            self.store([*place, start + u * lanes + v], acc[u * lanes + v])


def _widths(rest: int, lanes: int) -> list[int]:
    """`rest` as a sum of falling powers of two below `lanes`."""
    widths = []
    width = lanes // 2
    while width:
        if rest & width:
            widths.append(width)
        width //= 2
    return widths


__all__ = ["Axes", "combine", "identity", "reduction_nest"]
