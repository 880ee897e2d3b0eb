"""ReverseSequence."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute

from .registry import Node, Unsupported, op
from .scalar import let
from .shapes import axis_of, clamp_index


@op("ReverseSequence", since=10, kind="injective")
def reverse_sequence(node: Node) -> Tensor:
    """Along time_axis the first lengths[b] entries of batch entry b in reverse order, the rest as they are."""
    x, lengths = node.need(0), node.need(1)
    batch, time = axis_of(int(node.attr("batch_axis", 1)), x.ndim), axis_of(int(node.attr("time_axis", 0)), x.ndim)
    if batch == time:
        raise Unsupported("batch_axis and time_axis are the same", "two different axes")

    def element(*i: Index) -> tirx.Expr:
        t, one = as_expr(i[time], "int64"), as_expr(1, "int64")
        length = lengths(i[batch]).astype("int64")
        place = let(length, lambda n: tirx.Select(t < n, n - one - t, t))
        return x(*[clamp_index(place, x.shape[time]) if a == time else k for a, k in enumerate(i)])

    return compute(x.shape, x.dtype, element, [x, lengths], "reverse_sequence")
