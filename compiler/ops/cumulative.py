"""Running sums and products: CumSum, CumProd."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Tensor, as_expr, product
from targets.target import Target

from . import mathfn as fn
from .registry import Custom, Node, Unsupported, op
from .shapes import axis_of, known, late_ints, reshaped

CHUNK = 1024  # columns a task takes


def split_at(node: Node, x: Tensor) -> tuple[Index, Index, Index]:
    """Elements before, along and after the axis that input 1 names, which need not be known before the run."""
    if known(node, 1):
        axis = axis_of(int((node.ints(1, "axis") or [0])[0]), x.ndim)
        return product(x.shape[:axis]), x.shape[axis] if x.ndim else 1, product(x.shape[axis + 1 :])
    given = late_ints(node, 1, "axis")[0]
    zero, one = as_expr(0, "int64"), as_expr(1, "int64")
    axis = given()
    axis = tirx.Select(axis < zero, axis + as_expr(x.ndim, "int64"), axis)
    outer, size, inner = one, one, one
    for a, d in enumerate(x.shape):
        here, dim = as_expr(a, "int64"), as_expr(d, "int64")
        outer = outer * tirx.Select(here < axis, dim, one)
        size = size * tirx.Select(tirx.EQ(here, axis), dim, one)
        inner = inner * tirx.Select(here > axis, dim, one)
    return outer, size, inner


@op("CumSum", since=11)
@op("CumProd", since=26)
def cumulative(node: Node) -> Custom:
    """Each element combined with all before it along the axis (reverse: after it; exclusive: without itself).

    Partial results are rounded to the tensor's type, one after another, as numpy does.
    """
    x = node.need(0)
    if x.dtype == "bool":
        raise Unsupported(f"{node.op} of bool", f"{node.op} of numbers")
    reverse, exclusive = bool(node.attr("reverse", 0)), bool(node.attr("exclusive", 0))
    start = fn.const(0 if node.op == "CumSum" else 1, x.dtype)
    total = product(x.shape)
    is_float = fn.is_float(x.dtype)
    add, mul = (lambda a, b: a + b, lambda a, b: a * b) if is_float else (fn.add, fn.mul)
    combine = add if node.op == "CumSum" else mul

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        if isinstance(total, int) and total == 0:
            return []
        b = Builder(node.op.lower())
        late = not known(node, 1)
        with b:
            flat = reshaped(x, [total])
            result = reshaped(results[0], [total])
            out = b.arg(results[0], [total])
            if late:
                with b.parallel(1):
                    outer, size, inner = (b.let(as_expr(v, "int64")) for v in split_at(node, x))
                    with b.serial(outer, "o") as o:
                        run(b, flat, result, out, o, size, inner, 0, inner)
            else:
                outer, size, inner = split_at(node, x)
                chunks = tirx.floordiv(as_expr(inner, "int64") + (CHUNK - 1), as_expr(CHUNK, "int64"))
                with b.parallel(outer * chunks) as p:
                    o, c = tirx.floordiv(p, chunks), tirx.floormod(p, chunks)
                    first = b.let(c * CHUNK, "first")
                    count = b.let(tirx.min(as_expr(CHUNK, "int64"), as_expr(inner, "int64") - first), "count")
                    run(b, flat, result, out, b.let(o, "o"), size, inner, first, count)
        return [b.stage()]

    def run(
        b: Builder, flat: Tensor, result: Tensor, out: tirx.Var,
        o: Index, size: Index, inner: Index, first: Index, count: Index,
    ) -> None:  # fmt: skip
        """Fills columns [first, first + count) of block o, row by row."""
        one = as_expr(1, "int64")
        size, inner = as_expr(size, "int64"), as_expr(inner, "int64")

        def at(k: tirx.Expr, i: tirx.Expr) -> tirx.Expr:
            place = size - one - k if reverse else k
            return (o * size + place) * inner + first + i

        with b.serial(count, "i") as i:
            b.store(out, at(as_expr(0, "int64"), i), start if exclusive else flat(at(as_expr(0, "int64"), i)))
        with b.serial(size - one, "k") as k, b.serial(count, "i") as i:
            now, before = as_expr(k, "int64") + one, as_expr(k, "int64")
            b.store(out, at(now, i), combine(result(at(before, i)), flat(at(before if exclusive else now, i))))

    outputs = [Tensor(x.shape, x.dtype, node.op.lower())]
    return Custom(outputs, emit, tuple(t for t in node.inputs if t is not None))
