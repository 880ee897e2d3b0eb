"""Softmax and LogSoftmax: over one axis from opset 13 on, over all axes from one on before."""

from __future__ import annotations

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce

from . import mathfn
from .numbers import need_float, wide
from .registry import Node, Unsupported, op
from .shapes import axis_of


@op("Softmax", "LogSoftmax", since=13)
def softmax(node: Node) -> Tensor:
    """e^(x - max) over its sum along axis (default the last)."""
    x = node.need(0)
    if x.dtype in ("float16", "bfloat16"):
        # the function body rounds after each step, as ONNX's reference does
        raise Unsupported(f"{node.op} of {x.dtype} in one step", f"{node.op} of float32")
    return _softmax(node, x, [axis_of(int(node.attr("axis", -1)), max(1, x.ndim))])


@op("Softmax", "LogSoftmax", since=1)
def softmax_flattened(node: Node) -> Tensor:
    """The input seen as a matrix whose rows are the axes from `axis` (default 1) on."""
    x = node.need(0)
    node.attrs.setdefault("axis", 1)  # later versions default to -1, and the kernels go by those
    return _softmax(node, x, list(range(axis_of(int(node.attrs["axis"]), max(1, x.ndim)), x.ndim)))


def _softmax(node: Node, x: Tensor, axes: list[int]) -> Tensor:
    acc = wide(need_float(x.dtype, node.op))
    log = node.op == "LogSoftmax"
    if x.ndim == 0:
        return compute((), x.dtype, lambda: tirx.const(0.0 if log else 1.0, x.dtype), [x], node.op.lower())
    row = [1 if a in axes else d for a, d in enumerate(x.shape)]

    def place(i: tuple, r: tuple) -> list[Index]:
        at = list(i)
        for a, k in zip(axes, r, strict=True):
            at[a] = k
        return at

    def row_of(i: tuple) -> list[Index]:
        return [as_expr(0) if a in axes else k for a, k in enumerate(i)]

    extents = [x.shape[a] for a in axes]
    most = reduce(row, acc, extents, "max", lambda i, r: x(*place(i, r)).astype(acc), [x], None, "row_max")

    def power(i: tuple, r: tuple) -> tirx.Expr:
        return mathfn.exp(x(*place(i, r)).astype(acc) - most(*i))

    total = reduce(
        row, acc, extents, "sum", power, [x, most], (lambda v, *_: mathfn.log(v)) if log else None, "row_sum"
    )  # fmt: skip

    def fn(*i: Index) -> tirx.Expr:
        at = row_of(i)
        shifted = x(*i).astype(acc) - most(*at)
        return (shifted - total(*at) if log else mathfn.exp(shifted) / total(*at)).astype(x.dtype)

    return compute(x.shape, x.dtype, fn, [x, most, total], node.op.lower())
