"""Softmax of dequantized bytes: the same bits on every machine, with or without vectors, fused multiply-add or FPU."""

from __future__ import annotations

from tvm import tirx

from targets.kernels import vmath
from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce

from .registry import Node, op

MOST = 256  # elements of a row


@op("ByteSoftmax", domain="edgert")
def byte_softmax(node: Node) -> Tensor:
    """float32 softmax((x - zero) * scale) along the last axis (static, at most MOST) of int8 or uint8 x.

    The zero point falls out. Exponentials are summed in integers, so that no order of adding matters, with as many bits
    behind the point as cannot overflow (24 + 6 for a row of one, 22 for one of 256).
    """
    x, scale = node.need(0), float(node.attrs["scale"])
    count = int(x.shape[-1])
    shift = 30 - (count - 1).bit_length()
    row, unit = [*x.shape[:-1], 1], tirx.const(float(1 << shift), "float32")

    def byte(i: tuple) -> tirx.Expr:
        return x(*i).astype("int32")

    most = reduce(row, "int32", [count], "max", lambda i, r: byte((*i[:-1], r[0])), [x], None, "most")

    def power(i: tuple[Index, ...]) -> tirx.Expr:
        below = byte(i) - most(*i[:-1], as_expr(0))
        return vmath.exp_portable(below.astype("float32") * tirx.const(scale, "float32"))

    def whole(i: tuple, r: tuple) -> tirx.Expr:
        return (power((*i[:-1], r[0])) * unit + tirx.const(0.5, "float32")).astype("int32")

    total = reduce(row, "int32", [count], "sum", whole, [x, most], None, "total")

    def fn(*i: Index) -> tirx.Expr:
        return power(i) * (unit / total(*i[:-1], as_expr(0)).astype("float32"))

    return compute(x.shape, "float32", fn, [x, most, total], "softmax")
