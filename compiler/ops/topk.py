"""TopK: the k largest or smallest elements along an axis, best first."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Tensor, as_expr, product
from targets.target import Target

from . import mathfn as fn
from .argreduce import sort_key
from .numbers import dim_leaf, int64
from .registry import Custom, Node, Unsupported, op
from .shapes import axis_of, known, reshaped

OfIndex = Callable[[tirx.Expr], tirx.Expr]


class _Heap:
    """Indices of the best elements so far, the worst of them at the root.

    They lie in the entries slot(0), slot(1), ... of `places`. `key` gives the integer that an element is ordered by,
    from its index.
    """

    def __init__(
        self, b: Builder, places: tirx.Var, slot: OfIndex, key: OfIndex, largest: bool
    ) -> None:  # fmt: skip
        self.b, self.places, self.slot, self.key, self.largest = b, places, slot, key, largest

    def __getitem__(self, j: tirx.Expr) -> tirx.Expr:
        return self.places[self.slot(j)]

    def put(self, j: tirx.Expr, at: tirx.Expr) -> None:
        self.b.store(self.places, self.slot(j), at)

    def worse(self, at: tirx.Expr, other: tirx.Expr) -> tirx.Expr:
        """Whether element `at` comes after `other`: of equal values the lower index comes first."""
        a, c = self.b.let(self.key(at), "a"), self.b.let(self.key(other), "c")
        return tirx.any(a < c if self.largest else a > c, tirx.all(tirx.EQ(a, c), at > other))

    def sift(self, start: tirx.Expr, size: tirx.Expr, at: tirx.Expr) -> None:
        """Puts element `at` where it belongs below entry `start` of a heap of `size`; worse ones move up."""
        b = self.b
        hole, child = b.local((1,), "int64"), b.local((1,), "int64")
        b.store(hole, 0, start)
        b.store(child, 0, start * int64(2) + int64(1))
        with b.loop_while(child[0] < size):
            left = b.let(self[child[0]], "left")
            # the last left one is its own right
            right = b.let(self[tirx.min(child[0] + int64(1), size - int64(1))], "right")
            swap = self.worse(right, left)
            low = b.let(fn.select(swap, right, left), "low")
            b.store(child, 0, fn.select(swap, child[0] + int64(1), child[0]))
            with b.when(self.worse(low, at)):
                self.put(hole[0], low)
                b.store(hole, 0, child[0])
                b.store(child, 0, child[0] * int64(2) + int64(1))
            with b.otherwise():
                b.store(child, 0, size)
        self.put(hole[0], at)

    def select(self, k: tirx.Expr, n: tirx.Expr) -> None:
        """The best k of elements 0 to n - 1, best first. k is from 1 to n."""
        b, zero, one = self.b, int64(0), int64(1)
        with b.serial(k, "j") as j:
            self.put(j, j)
        half = b.let(tirx.floordiv(k, int64(2)), "half")
        with b.serial(half, "j") as j:
            start = b.let(half - one - j, "start")
            self.sift(start, k, b.let(self[start], "at"))
        with b.serial(n - k, "e") as e:
            new = b.let(k + e, "new")
            with b.when(self.worse(b.let(self[zero], "root"), new)):
                self.sift(zero, k, new)
        with b.serial(k - one, "j") as j:
            end = b.let(k - one - j, "end")
            at = b.let(self[end], "at")
            self.put(end, self[zero])
            self.sift(zero, end, at)


@op("TopK", since=1)
def top_k(node: Node) -> Custom:
    """Values and int64 indices. Sorted in any case (sorted=0 leaves the order open). NaNs count as the largest.

    Selection with a heap of k indices: O(n log k) for each column.
    """
    x = node.need(0)
    if x.dtype == "bool" or x.ndim == 0:
        raise Unsupported(f"TopK of {x.dtype} with {x.ndim} dimensions", "a tensor of numbers")
    axis = axis_of(int(node.attr("axis", -1)), x.ndim)
    n = x.shape[axis]
    late = "k" not in node.attrs and not known(node, 1)
    if late:
        assert node.fresh is not None
        k: Index = node.fresh("k", n)
    else:
        k = int(node.attr("k")) if "k" in node.attrs else (node.ints(1, "k") or [0])[0]
    if isinstance(k, int) and isinstance(n, int) and not 0 <= k <= n:
        raise Unsupported(f"the best {k} of {n} elements", f"k from 0 to {n}")
    shape = tuple(k if a == axis else d for a, d in enumerate(x.shape))
    outer, inner = product(x.shape[:axis]), product(x.shape[axis + 1 :])
    outputs = [Tensor(shape, x.dtype, "values"), Tensor(shape, "int64", "indices")]
    largest = bool(node.attr("largest", 1))

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        results = [*results, *outputs[len(results) :]]  # an output left out is scratch
        total = product(shape)
        if isinstance(total, int) and total == 0:
            return []
        most = product([outer, n if late else k, inner])
        source = reshaped(x, [product(x.shape)])
        b = Builder("top_k")
        with b:
            values, places = (b.arg(t, [most]) for t in results)
            with b.parallel(product([outer, inner]), grain=max(1, 4096 // n) if isinstance(n, int) else 1) as p:
                count = b.let(int64(k), "k")
                if late:
                    given = node.need(1)
                    asked = given(*[as_expr(0)] * given.ndim).astype("int64")
                    count = b.let(tirx.max(tirx.min(asked, int64(n)), int64(0)), "k")
                    with b.when(tirx.EQ(p, int64(0))):
                        b.store(b.arg(dim_leaf(k)), 0, count)
                o, i = b.let(tirx.floordiv(p, int64(inner)), "o"), b.let(tirx.floormod(p, int64(inner)), "i")

                def element(at: tirx.Expr) -> tirx.Expr:
                    return source((o * int64(n) + at) * int64(inner) + i)

                def slot(j: tirx.Expr) -> tirx.Expr:
                    return (o * count + j) * int64(inner) + i

                heap = _Heap(b, places, slot, lambda at: sort_key(element(at)), largest)
                with b.when(count > int64(0)):
                    heap.select(count, b.let(int64(n), "n"))
                with b.serial(count, "j") as j:
                    b.store(values, slot(int64(j)), element(heap[int64(j)]))
        return [b.stage()]

    return Custom(outputs, emit, tuple(t for t in node.inputs if t is not None))
