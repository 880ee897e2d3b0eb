"""Reading through indices: Gather, GatherElements, GatherND. Indices out of range are clamped, never followed."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute

from .numbers import number
from .registry import Node, Unsupported, op
from .shapes import axis_of


def wrapped(index: tirx.Expr, size: Index) -> tirx.Expr:
    """A possibly negative index as one in [0, size)."""
    index, size = index.astype("int64"), as_expr(size, "int64")
    counted = tirx.Select(index < 0, index + size, index)
    return tirx.max(tirx.min(counted, size - 1), as_expr(0, "int64"))


@op("Gather", since=1, kind="injective")
def gather(node: Node) -> Tensor:
    """Slices of `data` along `axis`, chosen by indices."""
    data, indices = node.need(0), node.need(1)
    axis = axis_of(int(node.attr("axis", 0)), data.ndim)
    rank = indices.ndim

    def element(*i: Index) -> tirx.Expr:
        at = wrapped(indices(*i[axis : axis + rank]), data.shape[axis])
        return data(*i[:axis], at, *i[axis + rank :])

    shape = [*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]]
    return compute(shape, data.dtype, element, [data, indices], "gather")


@op("GatherElements", since=11, kind="injective")
def gather_elements(node: Node) -> Tensor:
    """Element by element: the index replaces the position along `axis`."""
    data, indices = node.need(0), node.need(1)
    axis = axis_of(int(node.attr("axis", 0)), data.ndim)

    def element(*i: Index) -> tirx.Expr:
        return data(*i[:axis], wrapped(indices(*i), data.shape[axis]), *i[axis + 1 :])

    return compute(indices.shape, data.dtype, element, [data, indices], "gather_elements")


@op("GatherND", since=11, kind="injective")
def gather_nd(node: Node) -> Tensor:
    """Slices of `data` chosen by tuples of indices, after `batch_dims` common axes."""
    data, indices = node.need(0), node.need(1)
    batch = int(node.attr("batch_dims", 0))
    depth = number(indices.shape[-1], "length of the index tuples")
    if batch + depth > data.ndim:
        raise Unsupported(f"tuples of {depth} indices into {data.ndim} dimensions", "at most one index an axis")
    lead = indices.ndim - 1

    def element(*i: Index) -> tirx.Expr:
        at = [wrapped(indices(*i[:lead], as_expr(k)), data.shape[batch + k]) for k in range(depth)]
        return data(*i[:batch], *at, *i[lead:])

    shape = [*indices.shape[:-1], *data.shape[batch + depth :]]
    return compute(shape, data.dtype, element, [data, indices], "gather_nd")
