"""Elements picked by a condition: NonZero and Compress. How many there are is known only at run time."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.loops import unflatten
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor, product
from targets.target import Target

from . import mathfn as fn
from .numbers import dim_leaf, int64, number
from .registry import Custom, Node, op
from .shapes import axis_of


def _is_set(value: tirx.Expr) -> tirx.Expr:
    return value if fn.dtype_of(value) == "bool" else tirx.NE(value, fn.like(0, value))


@op("NonZero", since=9)
def non_zero(node: Node) -> Custom:
    """[rank, count]: the indices of the elements that are not zero, in row-major order."""
    x = node.need(0)
    size = product(x.shape)
    most = number(size, "the number of elements")
    rank = max(x.ndim, 1)
    assert node.fresh is not None
    count = node.fresh("nonzero", most)

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        b = Builder(f"non_zero_{x.dtype}")
        with b, b.parallel(1):
            out, slot = b.arg(results[0], [max(1, rank * most)]), b.arg(dim_leaf(count))
            total, seen = b.local((1,), "int64"), b.local((1,), "int64")
            for target_count, store in ((total, False), (seen, True)):  # the count is the row length: it comes first
                b.store(target_count, 0, int64(0))
                with b.serial(int64(most), "p") as p:
                    at = unflatten(int64(p), x.shape)
                    with b.when(_is_set(x(*at))):
                        if store:
                            for row, k in enumerate(at or [int64(0)]):
                                b.store(out, int64(row) * total[0] + seen[0], int64(k))
                        b.store(target_count, 0, target_count[0] + int64(1))
            b.store(slot, 0, total[0])
        return [b.stage()]

    return Custom([Tensor((rank, count), "int64", "places")], emit, (x,))


@op("Compress", since=9)
def compress(node: Node) -> Custom:
    """The slices along `axis` (without one: the elements) whose condition is true. A short condition ends in false."""
    x, condition = node.need(0), node.need(1)
    flat = node.attr("axis") is None
    axis = 0 if flat else axis_of(int(node.attr("axis")), x.ndim)
    shape = [product(x.shape)] if flat else list(x.shape)
    outer, length, inner = product(shape[:axis]), shape[axis], product(shape[axis + 1 :])
    tests = tirx.min(int64(condition.shape[0]), int64(length))
    assert node.fresh is not None
    kept = node.fresh("kept", number(length, "the compressed dimension"))
    result = Tensor((*shape[:axis], kept, *shape[axis + 1 :]), x.dtype, "kept")

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        b = Builder(f"compress_{x.dtype}")
        most = max(1, number(product([outer, length, inner]), "the number of elements"))
        with b, b.parallel(1):
            source, out, slot = b.arg(x, [most]), b.arg(results[0], [most]), b.arg(dim_leaf(kept))
            total, seen = b.local((1,), "int64"), b.local((1,), "int64")
            b.store(total, 0, int64(0))
            with b.serial(tests, "k") as k, b.when(condition(k)):
                b.store(total, 0, total[0] + int64(1))
            b.store(slot, 0, total[0])
            b.store(seen, 0, int64(0))
            with b.serial(tests, "k") as k, b.when(condition(k)):
                with b.serial(int64(outer), "o") as o, b.serial(int64(inner), "n") as n:
                    read = (int64(o) * int64(length) + int64(k)) * int64(inner) + int64(n)
                    b.store(out, (int64(o) * total[0] + seen[0]) * int64(inner) + int64(n), source[read])
                b.store(seen, 0, seen[0] + int64(1))
        return [b.stage()]

    return Custom([result], emit, (x, condition))
