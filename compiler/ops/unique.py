"""Unique: the different elements or slices of a tensor. How many there are is known only at run time."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Index, Tensor, as_expr, product
from targets.target import Target

from . import mathfn as fn
from .numbers import dim_leaf, int64, number, wide
from .registry import Custom, Node, op
from .shapes import axis_of


class _Slices:
    """x seen as [outer, count, inner]; slice k is x[:, k, :], compared in row-major order."""

    def __init__(self, x: Tensor, axis: int | None) -> None:
        shape = [product(x.shape)] if axis is None else list(x.shape)
        at = 0 if axis is None else axis
        self.x = x
        self.outer = number(product(shape[:at]), "the number of elements")
        self.count = number(shape[at], "the number of slices")
        self.inner = number(product(shape[at + 1 :]), "the number of elements")

    def load(self, b: Builder, k: tirx.Expr, o: Index, n: Index) -> tirx.Expr:
        value = b.arg(self.x, [max(1, self.outer * self.count * self.inner)])[self.place(k, o, n, int64(self.count))]
        return value.astype("uint8" if self.x.dtype == "bool" else wide(self.x.dtype))

    def place(self, k: tirx.Expr, o: Index, n: Index, count: tirx.Expr) -> tirx.Expr:
        return (int64(o) * count + k) * int64(self.inner) + int64(n)

    def compare(self, b: Builder, sign: tirx.Var, i: tirx.Expr, j: tirx.Expr) -> None:
        """sign[0]: below, at or above 0 as slice i comes before, equals or comes after slice j. NaNs come last."""
        b.store(sign, 0, as_expr(0, "int32"))
        with (
            b.serial(int64(self.outer), "o") as o,
            b.serial(int64(self.inner), "n") as n,
            b.when(tirx.EQ(sign[0], as_expr(0, "int32"))),
        ):
            left, right = b.let(self.load(b, i, o, n), "l"), b.let(self.load(b, j, o, n), "r")
            below, above = left < right, left > right
            if fn.is_float(fn.dtype_of(left)):
                below = tirx.any(below, tirx.all(fn.is_nan(right), tirx.Not(fn.is_nan(left))))
                above = tirx.any(above, tirx.all(fn.is_nan(left), tirx.Not(fn.is_nan(right))))
            one = as_expr(1, "int32")
            b.store(sign, 0, tirx.Select(below, as_expr(-1, "int32"), tirx.Select(above, one, as_expr(0, "int32"))))


@op("Unique", since=11)
def unique(node: Node) -> Custom:
    """Outputs: the different slices, where each first stands, which of them each slice is, how often each stands.

    sorted=0: in order of first appearance. NaNs count as equal. Takes time in proportion to slices * different ones.
    """
    x = node.need(0)
    axis = None if node.attr("axis") is None else axis_of(int(node.attr("axis")), x.ndim)
    slices = _Slices(x, axis)
    ordered = bool(node.attr("sorted", 1))
    assert node.fresh is not None
    found = node.fresh("unique", slices.count)
    shape = [found] if axis is None else [found if a == axis else d for a, d in enumerate(x.shape)]
    outputs = [
        Tensor(tuple(shape), x.dtype, "unique"), Tensor((found,), "int64", "indices"),
        Tensor((slices.count,), "int64", "inverse"), Tensor((found,), "int64", "counts"),
    ]  # fmt: skip
    outputs = outputs[: len(node.outputs)]

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        b = Builder(f"unique_{x.dtype}")
        size = max(1, slices.count)
        with b, b.parallel(1):
            out = b.arg(results[0], [max(1, slices.outer * slices.count * slices.inner)])
            wanted = {k: b.arg(r, [size]) for k, r in enumerate(results) if k > 0}
            slot = b.arg(dim_leaf(found))
            first, group, often, rank = (b.arg(Temp((size,), "int64", n)) for n in ("first", "group", "often", "rank"))
            total, sign, here = b.local((1,), "int64"), b.local((1,), "int32"), b.local((1,), "int64")
            b.store(total, 0, int64(0))
            with b.serial(int64(slices.count), "k") as k:
                b.store(here, 0, total[0])
                with b.serial(total[0], "u") as u, b.when(tirx.EQ(here[0], total[0])):
                    slices.compare(b, sign, int64(k), first[u])
                    with b.when(tirx.EQ(sign[0], as_expr(0, "int32"))):
                        b.store(here, 0, u)
                with b.when(tirx.EQ(here[0], total[0])):
                    b.store(first, here[0], int64(k))
                    b.store(often, here[0], int64(0))
                    b.store(total, 0, total[0] + int64(1))
                b.store(often, here[0], often[here[0]] + int64(1))
                b.store(group, int64(k), here[0])
            b.store(slot, 0, total[0])
            with b.serial(total[0], "u") as u:
                b.store(rank, u, int64(0) if ordered else u)
                if ordered:
                    with b.serial(total[0], "v") as v:
                        slices.compare(b, sign, first[v], first[u])
                        with b.when(sign[0] < as_expr(0, "int32")):
                            b.store(rank, u, rank[u] + int64(1))
                with b.serial(int64(slices.outer), "o") as o, b.serial(int64(slices.inner), "n") as n:
                    source = b.arg(x, [max(1, slices.outer * slices.count * slices.inner)])
                    value = source[slices.place(first[u], o, n, int64(slices.count))]
                    b.store(out, slices.place(rank[u], o, n, total[0]), value)
                for k, values in ((1, first), (3, often)):
                    if k in wanted:
                        b.store(wanted[k], rank[u], values[u])
            if 2 in wanted:
                with b.serial(int64(slices.count), "k") as k:
                    b.store(wanted[2], int64(k), rank[group[int64(k)]])
        return [b.stage()]

    return Custom(outputs, emit, (x,))
