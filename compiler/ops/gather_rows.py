"""Gather of whole rows of a constant table, as an operator of its own: see targets/kernels/gather_rows.py."""

from __future__ import annotations

from targets.kernels.tensor import Index, Tensor, compute

from .indexing import wrapped
from .registry import Node, op


@op("GatherRows", domain="edgert")
def gather_rows(node: Node) -> Tensor:
    """Inputs: data [V, K], integer indices of any shape (negative: from the end, beyond it: clamped) -> [..., K]."""
    data, indices = node.need(0), node.need(1)

    def element(*i: Index) -> object:
        return data(wrapped(indices(*i[:-1]), data.shape[0]), i[-1])

    return compute((*indices.shape, data.shape[1]), data.dtype, element, [data, indices], "gather_rows")
