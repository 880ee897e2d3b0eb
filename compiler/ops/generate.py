"""Tensors made from a description: Range, OneHot, EyeLike."""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, simplify
from targets.kernels.vmath import let

from . import mathfn as fn
from .cast import element_type
from .registry import Node, Unsupported, op
from .shapes import declared_shape, known


def grows(value: Index) -> bool:
    """Whether an expression surely never falls as a dimension grows: then it is largest at the largest sizes."""
    if isinstance(value, int | tirx.Var | tirx.IntImm):
        return True
    if isinstance(value, tirx.Add | tirx.Min | tirx.Max):
        return grows(value.a) and grows(value.b)
    if isinstance(value, tirx.Sub):
        return grows(value.a) and isinstance(value.b, tirx.IntImm)
    if isinstance(value, tirx.Mul | tirx.FloorDiv):
        return grows(value.a) and isinstance(value.b, tirx.IntImm) and int(value.b.value) > 0
    return False


def range_length(node: Node) -> Index:
    """max(0, ceil((limit - start) / delta)), as the model declares it where that is known only at run time."""
    numbers = [node.const(i) for i in range(3)]
    if all(v is not None for v in numbers):
        start, limit, delta = (v.reshape(-1)[0].item() for v in numbers)  # type: ignore[union-attr]
        if delta == 0:
            raise Unsupported("a Range with delta 0", "another delta")
        if all(isinstance(v, int) for v in (start, limit, delta)):
            return max(0, -((start - limit) // delta))
        return max(0, math.ceil((limit - start) / delta))
    if not all(known(node, i) for i in range(3)):
        return declared_shape(node, "start, limit and delta")[0]
    start, limit, delta = (v for i in range(3) for v in node.ints(i, "range") or [])
    if not isinstance(delta, int) or delta == 0:
        raise Unsupported("a Range with a symbolic delta", "a constant delta")
    step = as_expr(abs(delta), "int64")
    span = as_expr(simplify((limit - start) if delta > 0 else (start - limit)), "int64")
    steps = simplify(tirx.max(tirx.floordiv(span + (step - 1), step), as_expr(0, "int64")))
    if not grows(steps):  # memory is set aside for the largest sizes
        raise Unsupported(f"a Range of {steps} elements", "a length that grows with the dimensions")
    return steps


@op("Range", since=11)
def range_(node: Node) -> Tensor:
    """start + i * delta: integers in int64 (wrapping), floats in float64, then rounded once to the type."""
    start, delta = node.need(0), node.need(2)
    dtype = start.dtype
    held = "float64" if fn.is_float(dtype) else "int64"

    def number(i: int) -> tirx.Expr:
        if known(node, i) and node.const(i) is None:
            return as_expr((node.ints(i, "range") or [0])[0], held)
        t = node.need(i)
        return fn.convert(t(*[as_expr(0)] * t.ndim), held)

    def of(i: Index) -> tirx.Expr:
        return fn.convert(number(0) + as_expr(i, "int64").astype(held) * number(2), dtype)

    used = [t for i, t in ((0, start), (2, delta)) if not known(node, i) or node.const(i) is not None]
    return compute([range_length(node)], dtype, of, used, "range")


@op("OneHot", since=9, kind="injective")
def one_hot(node: Node) -> Tensor:
    """values[1] where the index along the new axis is the given one, values[0] elsewhere.

    Negative indices count from the back; those out of range give values[0] all along. Fractions are cut off.
    """
    indices, values = node.need(0), node.need(2)
    rank = indices.ndim + 1
    axis = int(node.attr("axis", -1))
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} of a result with {rank} dimensions")
    axis %= rank
    if known(node, 1):
        given = node.const(1)
        depth: Index = (node.ints(1, "depth") or [0])[0] if given is None else int(np.asarray(given).reshape(-1)[0])
    else:
        depth = declared_shape(node, "depth")[axis]

    def of(*i: Index) -> tirx.Expr:
        def pick(v: tirx.Expr) -> tirx.Expr:
            at = fn.select(v < as_expr(0, "int64"), v + as_expr(depth, "int64"), v)
            return fn.select(tirx.EQ(at, as_expr(i[axis], "int64")), values(as_expr(1)), values(as_expr(0)))

        return let(fn.convert(indices(*i[:axis], *i[axis + 1 :]), "int64"), pick)

    shape = [*indices.shape[:axis], depth, *indices.shape[axis:]]
    return compute(shape, values.dtype, of, [indices, values], "one_hot")


@op("EyeLike", since=9, kind="injective")
def eye_like(node: Node) -> Tensor:
    """Ones on diagonal k, zeros elsewhere, in the shape of the input."""
    x = node.need(0)
    if x.ndim != 2:
        raise Unsupported(f"EyeLike of a tensor with {x.ndim} dimensions", "a matrix")
    dtype = element_type(node.attr("dtype")) if node.attr("dtype") else x.dtype
    k = int(node.attr("k", 0))

    def of(i: Index, j: Index) -> tirx.Expr:
        on = tirx.EQ(as_expr(j, "int64"), as_expr(i, "int64") + as_expr(k, "int64"))
        return on if dtype == "bool" else fn.select(on, fn.const(1, dtype), fn.const(0, dtype))

    return compute(x.shape, dtype, of, [], "eye")
