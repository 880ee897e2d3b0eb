"""ONNX Runtime's products of 8-bit matrices (domain com.microsoft) in their generic form. Sums are int32."""

from __future__ import annotations

from dataclasses import replace

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute

from .elementwise import broadcast_shape, broadcast_to
from .integer_matmul import along, centred, single
from .matmul import product_of
from .quantize import dynamic_quantize_linear, requantize
from .registry import Node, Unsupported, op

MS = "com.microsoft"


def scaled(total: Tensor, a_scale: Tensor, b_scale: Tensor, bias: Tensor | None, name: str) -> Tensor:
    """total * (a_scale * b_scale) + bias in float32; b_scale for the matrix or by column."""
    if a_scale.dtype != "float32" or b_scale.dtype != "float32":
        raise Unsupported(f"scales of {a_scale.dtype} and {b_scale.dtype}", "float32")
    columns = total.ndim - 1
    left, right = single(a_scale, "a_scale"), along(b_scale, total.shape, columns, "b_scale")
    add = None
    if bias is not None:
        if len(broadcast_shape(total.shape, bias.shape)) != total.ndim:
            raise Unsupported(f"a bias of shape {bias.shape}", "one number for each column")
        add = broadcast_to(bias, total.shape)

    def of(*i: Index) -> tirx.Expr:
        value = total(*i).astype("float32") * (left(*i) * right(*i))
        return value if add is None else value + add(*i)

    return compute(
        total.shape, "float32", of, [t for t in (total, a_scale, b_scale, bias) if t is not None], name
    )  # fmt: skip


@op("MatMulIntegerToFloat", domain=MS)
def matmul_integer_to_float(node: Node) -> Tensor:
    """A, B, a_scale, b_scale, a_zero_point, b_zero_point, bias: MatMulInteger, scaled to float32."""
    a, b = node.need(0), node.need(1)
    a_zero = node.input(4)
    if a_zero is not None:
        single(a_zero, "A's zero point")
    total = product_of(centred(a, a_zero, max(a.ndim - 2, 0), "A"), centred(b, node.input(5), b.ndim - 1, "B"))
    return scaled(total, node.need(2), node.need(3), node.input(6), "matmul_integer_to_float")


@op("DynamicQuantizeMatMul", domain=MS)
def dynamic_quantize_matmul(node: Node) -> Tensor:
    """A float32, B 8-bit, b_scale, b_zero_point, bias: A in uint8 over its own range, then as MatMulIntegerToFloat."""
    a, b = node.need(0), node.need(1)
    quantized, scale, zero = dynamic_quantize_linear(replace(node, op="DynamicQuantizeLinear", inputs=[a]))
    total = product_of(centred(quantized, zero, 0, "A"), centred(b, node.input(3), b.ndim - 1, "B"))
    return scaled(total, scale, node.need(2), node.input(4), "dynamic_quantize_matmul")


@op("QGemm", domain=MS)
def qgemm(node: Node) -> Tensor:
    """A, a_scale, a_zero, B, b_scale, b_zero (the last two also by column), C int32, y_scale, y_zero.

    (A' B' + C) * (alpha * a_scale * b_scale): float32 without y_scale, else divided by that and quantized.
    """
    a, b, c = node.need(0), node.need(3), node.input(6)
    a_scale, b_scale, y_scale, y_zero = node.need(1), node.need(4), node.input(7), node.input(8)
    if a.ndim != 2 or b.ndim != 2:
        raise Unsupported(f"QGemm of tensors with {a.ndim} and {b.ndim} dimensions", "matrices")
    if (y_scale is None) != (y_zero is None):
        raise Unsupported("QGemm with one of y_scale and y_zero_point", "both, or neither")
    single(node.need(2), "A's zero point")
    swap_a, swap_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    left, right = centred(a, node.need(2), 0, "A"), centred(b, node.need(5), 0 if swap_b else 1, "B")
    total = product_of(left, right, swap_a, swap_b)
    if c is not None and (c.dtype != "int32" or len(broadcast_shape(total.shape, c.shape)) != 2):
        raise Unsupported(f"QGemm's C of {c.dtype} {c.shape}", "int32 that broadcasts to the result")
    add = None if c is None else broadcast_to(c, total.shape)
    alpha = as_expr(float(node.attr("alpha", 1.0)), "float32")
    by_a, by_b = single(a_scale, "a_scale"), along(b_scale, total.shape, 1, "b_scale")
    by_y, offset = (None if t is None else single(t, "y's scale") for t in (y_scale, y_zero))

    def of(*i: Index) -> tirx.Expr:
        value = total(*i) if add is None else total(*i) + add(*i)
        factor = alpha * by_a(*i) * by_b(*i)
        if by_y is None or offset is None:
            return value.astype("float32") * factor
        return requantize(value.astype("float32") * (factor / by_y(*i)), offset(*i), dtype)

    dtype = "float32" if y_zero is None else y_zero.dtype
    used = [t for t in (total, c, a_scale, b_scale, y_scale, y_zero) if t is not None]
    return compute(total.shape, dtype, of, used, "qgemm")
