"""Transpose."""

from __future__ import annotations

from targets.kernels.tensor import Tensor, compute

from .registry import Node, Unsupported, op


@op("Transpose", since=1, kind="injective")
def transpose(node: Node) -> Tensor:
    """Axis i of the result is axis perm[i] of the input; without perm, the axes in reverse."""
    x = node.need(0)
    perm = list(node.attr("perm") or range(x.ndim)[::-1])
    if sorted(p % max(x.ndim, 1) for p in perm) != list(range(x.ndim)):
        raise Unsupported(f"perm {perm} of a tensor with {x.ndim} dimensions", "a permutation of all axes")
    place = [perm.index(axis) for axis in range(x.ndim)]
    return compute([x.shape[p] for p in perm], x.dtype, lambda *i: x(*(i[p] for p in place)), [x], "transpose")
