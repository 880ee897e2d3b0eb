"""Scatter, ScatterElements, ScatterND: copies of the data with some elements replaced or combined."""

from __future__ import annotations

from collections.abc import Callable

from targets.kernels.builder import Builder
from targets.kernels.loops import unflatten
from targets.kernels.nest import lower_nest
from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, product
from targets.target import Target

from . import mathfn as fn
from .indexing import wrapped
from .numbers import number, wide
from .registry import Custom, Node, Unsupported, op
from .shapes import axis_of


def _combine(node: Node, dtype: str) -> Callable[[Scalar, Scalar], Scalar]:
    """What becomes of the element there and the update, by the attribute `reduction`."""
    name = node.attr("reduction", "none")
    number_like = dtype != "bool"
    steps = {"none": lambda old, new: new}
    if number_like:
        integer = not fn.is_float(dtype)
        steps["add"] = fn.add if integer else lambda old, new: old + new
        steps["mul"] = fn.mul if integer else lambda old, new: old * new
        steps["max"], steps["min"] = fn.maximum, fn.minimum
    if name not in steps:
        raise Unsupported(f"reduction {name} of {dtype}", "none, add, mul, max or min of numbers")
    acc = wide(dtype)
    return lambda old, new: steps[name](old.astype(acc), new.astype(acc)).astype(dtype)


def _scatter(node: Node, data: Tensor, indices: Tensor, updates: Tensor, place: Callable[[list], list]) -> Custom:
    """A copy of `data`; then, one update after another, result[place(i)] combined with updates[i].

    One thread: two updates may meet in one element. `place` brings indices into range.
    """
    step = _combine(node, data.dtype)
    empty = any(isinstance(d, int) and d == 0 for d in (*data.shape, *updates.shape))

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        copy = compute(data.shape, data.dtype, data, [data], "copy")
        stages = lower_nest([(copy, results[0])], target, "scatter_copy")
        if empty:
            return stages
        b = Builder(f"scatter_{data.dtype}")
        with b, b.parallel(1):
            out = b.arg(results[0])
            with b.serial(as_expr(product(updates.shape), "int64"), "u") as u:
                i = unflatten(as_expr(u, "int64"), updates.shape)
                at = [b.let(as_expr(k, "int64"), "at") for k in place(i)] or [as_expr(0)]
                old = out[tuple(at)]
                if data.dtype == "bool":
                    b.store(out, at, updates(*i))
                else:
                    b.store(out, at, step(old, updates(*i)))
        return [*stages, b.stage()]

    return Custom([Tensor(data.shape, data.dtype, "scattered")], emit, (data, indices, updates))


@op("Scatter", since=9)
@op("ScatterElements", since=11)
def scatter_elements(node: Node) -> Custom:
    """The index replaces the position along `axis`; negative ones count from the end."""
    data, indices, updates = node.need(0), node.need(1), node.need(2)
    axis = axis_of(int(node.attr("axis", 0)), data.ndim)

    def place(i: list) -> list[Index]:
        return [wrapped(indices(*i), data.shape[a]) if a == axis else k for a, k in enumerate(i)]

    return _scatter(node, data, indices, updates, place)


@op("ScatterND", since=11)
def scatter_nd(node: Node) -> Custom:
    """Each tuple of indices names a slice of the data, which one slice of the updates replaces."""
    data, indices, updates = node.need(0), node.need(1), node.need(2)
    depth, lead = number(indices.shape[-1], "length of the index tuples"), indices.ndim - 1
    if depth > data.ndim:
        raise Unsupported(f"tuples of {depth} indices into {data.ndim} dimensions", "at most one index an axis")

    def place(i: list) -> list[Index]:
        return [*(wrapped(indices(*i[:lead], as_expr(k)), data.shape[k]) for k in range(depth)), *i[lead:]]

    return _scatter(node, data, indices, updates, place)
