"""Broadcasting: the shapes and readers that element-wise operators share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, same_dim

from .registry import Node, Unsupported


def broadcast_shape(*shapes: Sequence[Index]) -> tuple[Index, ...]:
    """The common shape under ONNX's (numpy's) multidirectional broadcasting.

    Raises Unsupported where two dimensions can neither be proven equal nor is one of them 1.
    """
    rank = max(len(s) for s in shapes)
    result: list[Index] = []
    for axis in range(rank):
        dims = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        dims = [d for d in dims if not (isinstance(d, int) and d == 1)] or [1]
        if any(not same_dim(dims[0], d) for d in dims[1:]):
            raise Unsupported(f"cannot tell whether dimensions {dims} are equal", "equal dimensions, or 1")
        result.append(dims[0])
    return tuple(result)


def broadcast_to(t: Tensor, shape: Sequence[Index]) -> Callable[..., tirx.Expr]:
    """A reader of `t` at indices of `shape`, to which it broadcasts."""
    skip = len(shape) - t.ndim
    fixed = [isinstance(d, int) and d == 1 and not (isinstance(s, int) and s == 1)
             for d, s in zip(t.shape, shape[skip:], strict=True)]  # fmt: skip
    return lambda *i: t(*[as_expr(0) if f else x for f, x in zip(fixed, i[skip:], strict=True)])


def map_broadcast(inputs: Sequence[Tensor], dtype: str, fn: Callable[..., tirx.Expr], name: str = "t") -> Tensor:
    """The map that applies `fn` to corresponding elements of the broadcast inputs."""
    shape = broadcast_shape(*(t.shape for t in inputs))
    readers = [broadcast_to(t, shape) for t in inputs]
    return compute(shape, dtype, lambda *i: fn(*(r(*i) for r in readers)), inputs, name)


def variadic(node: Node, fn: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> Tensor:
    """All inputs folded from the left with `fn`."""
    inputs = [node.need(i) for i in range(len(node.inputs))]
    return map_broadcast(inputs, inputs[0].dtype, lambda *v: functools.reduce(fn, v), node.op.lower())


def unary(node: Node, fn: Callable[[tirx.Expr], tirx.Expr], dtype: str | None = None) -> Tensor:
    """The map `fn` over the elements of input 0."""
    x = node.need(0)
    return compute(x.shape, dtype or x.dtype, lambda *i: fn(x(*i)), [x], node.op.lower())


def binary(node: Node, fn: Callable[[tirx.Expr, tirx.Expr], tirx.Expr], dtype: str | None = None) -> Tensor:
    """The map `fn` over corresponding elements of the first two inputs, broadcast."""
    a, b = node.need(0), node.need(1)
    return map_broadcast([a, b], dtype or a.dtype, fn, node.op.lower())
