"""Reducing one row of values to a number in vectors: the inner part of reductions, softmax and normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tvm import tirx

from .builder import Builder
from .loops import span, split
from .tensor import Index, as_expr

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
    if not is_float(str(b.ty.dtype)):
        return tirx.max(a, b) if kind == "max" else tirx.min(a, b)
    better = b > a if kind == "max" else b < a
    return tirx.Select(tirx.Or(better, is_nan(b)), b, a)  # a NaN wins, as in numpy


def is_nan(x: tirx.Expr) -> tirx.Expr:
    """Whether x is a NaN, by its bits: TVM simplifies x != x, and its isnan does not vectorise."""
    dtype = str(x.ty.dtype)
    if dtype == "bfloat16":
        return is_nan(x.astype("float32"))
    bits, infinity = {"float16": (16, 0x7C00), "float32": (32, 0x7F800000), "float64": (64, 0x7FF0000000000000)}[dtype]
    whole = tirx.reinterpret(f"int{bits}", x)
    return (whole & tirx.const((1 << (bits - 1)) - 1, f"int{bits}")) > tirx.const(infinity, f"int{bits}")


def identity(kind: str, dtype: str) -> tirx.Expr:
    """The neutral element."""
    if kind in ("max", "min") and is_float(dtype):
        return tirx.const(-float("inf") if kind == "max" else float("inf"), dtype)
    if kind == "max":
        return tirx.min_value(dtype)
    if kind == "min":
        return tirx.max_value(dtype)
    return tirx.const(1 if kind in ("prod", "all") else 0, dtype)


def is_float(dtype: str) -> bool:
    """Whether a type's name is one of a floating-point type."""
    return "float" in dtype


def fold(b: Builder, kind: str, acc: tirx.Var, place: Index, value: tirx.Expr) -> None:
    """acc[place] = acc[place] (kind) value."""
    b.store(acc, place, combine(kind, b.let(acc[as_expr(place)], "a"), b.let(value, "x")))


def cleared(b: Builder, kind: str, dtype: str, count: int, lanes: int = 1) -> tirx.Var:
    """A local of `count` accumulators that hold the neutral element."""
    acc = b.local((count,), dtype)
    span(b, count, lanes, lambda i: b.store(acc, i, identity(kind, dtype)))
    return acc


def unrolling(n: Index, lanes: int) -> int:
    """How many vectors of accumulators a row of n is worth."""
    return UNROLL if not isinstance(n, int) or n >= UNROLL * lanes else max(1, n // lanes)


def reduce_row(
    b: Builder, kind: str, dtype: str, lanes: int, n: Index, value: Callable[..., tirx.Expr],
    outer: Sequence[Index] = (),
) -> tirx.Expr:  # fmt: skip
    """The reduction of `value(*outer, i)` over i < n and over the outer axes, as a scalar.

    Partial results stand in vectors, so a float sum is reassociated; long ones are summed in blocks. `value` may emit
    statements; it is called where each element (vector) is computed, once for each.
    """
    return _Row(b, kind, dtype, lanes).emit(n, value, outer)


class _Row:
    def __init__(self, b: Builder, kind: str, dtype: str, lanes: int) -> None:
        self.b, self.kind, self.dtype, self.lanes = b, kind, dtype, lanes

    def emit(self, n: Index, value: Callable[..., tirx.Expr], outer: Sequence[Index]) -> tirx.Expr:
        b, lanes = self.b, self.lanes
        unroll = unrolling(n, lanes)
        main = self.cleared(unroll * lanes) if not isinstance(n, int) or n >= lanes else None
        whole, rest = split(n, unroll * lanes)
        vectors, rest = split(rest, lanes)
        parts = widths(rest, lanes) if isinstance(rest, int) else [1]
        narrow = [self.cleared(w) for w in parts]
        with ExitStack() as loops:
            k = [loops.enter_context(b.serial(e, "k")) for e in outer]

            def step(acc: tirx.Var, place: Index, position: Index) -> None:
                fold(b, self.kind, acc, place, value(*k, position))

            if main is not None:
                self.blocks(main, unroll, whole, step)
                with b.serial(vectors, "j") as j, b.vector(lanes) as v:
                    step(main, v, whole * (unroll * lanes) + j * lanes + v)
            start = whole * (unroll * lanes) + vectors * lanes
            if isinstance(rest, int):
                for width, acc in zip(parts, narrow, strict=True):
                    with b.vector(width) as v:
                        step(acc, v, start + v)
                    start = start + width
            else:
                with b.serial(rest, "r") as i:
                    step(narrow[0], 0, start + i)
        halves = [(main, unroll * lanes)] if main is not None else []
        for acc, width in [*halves, *zip(narrow, parts, strict=True)]:
            self.shrink(acc, width)
        every = [acc for acc, _ in halves] + narrow or [self.cleared(1)]  # neither: nothing to reduce
        for acc in every[1:]:
            fold(b, self.kind, every[0], 0, acc[0])
        return b.let(every[0][0], self.kind)

    def cleared(self, count: int) -> tirx.Var:
        return cleared(self.b, self.kind, self.dtype, count, min(count, self.lanes))

    def blocks(self, main: tirx.Var, unroll: int, whole: Index, step: Callable) -> None:
        """The unrolled part; a long float sum in blocks, each added to the total when it is done."""
        b, lanes = self.b, self.lanes

        def chunk(acc: tirx.Var, j: Index) -> None:
            with b.unroll(unroll) as u, b.vector(lanes) as v:
                step(acc, u * lanes + v, (j * unroll + u) * lanes + v)

        done = 0
        if self.kind == "sum" and is_float(self.dtype) and isinstance(whole, int) and whole >= 2 * BLOCK:
            done = whole // BLOCK
            with b.serial(done, "block") as block:
                partial = self.cleared(unroll * lanes)
                with b.serial(BLOCK, "j") as j:
                    chunk(partial, block * BLOCK + j)
                with b.unroll(unroll) as u, b.vector(lanes) as v:
                    fold(b, self.kind, main, u * lanes + v, partial[u * lanes + v])
        with b.serial(whole - done * BLOCK, "j") as j:
            chunk(main, done * BLOCK + j)

    def shrink(self, acc: tirx.Var, width: int) -> None:
        """Folds `width` accumulators into acc[0], halving."""
        for u in range(1, width // self.lanes):  # how many is not always a power of two
            with self.b.vector(self.lanes) as v:
                fold(self.b, self.kind, acc, v, acc[u * self.lanes + v])
        half = min(width, self.lanes) // 2
        while half:
            with self.b.vector(half) as v:
                fold(self.b, self.kind, acc, v, acc[half + v])
            half //= 2


def widths(rest: int, lanes: int) -> list[int]:
    """`rest` (below `lanes`) as a sum of falling powers of two."""
    return [w for w in (1 << i for i in reversed(range(lanes.bit_length()))) if rest & w]
