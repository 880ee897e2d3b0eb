"""ONNX Runtime's QLinear operators (domain com.microsoft), generic: dequantize, the float operator, quantize.

Schemas: onnxruntime/core/graph/contrib_ops/quantization_defs.cc. A zero point left out is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, compute

from . import mathfn as fn
from .elementwise import map_broadcast
from .integer_matmul import BYTES, qlinear_conv, single
from .movement import concat
from .pool import average_pool, averaged, global_average_pool, global_average_pool2d
from .quantize import dequantize_linear, quantize_linear, requantize
from .registry import Node, Unsupported, op
from .softmax import softmax, softmax_flattened
from .window import window

MS = "com.microsoft"


def real(x: Tensor, scale: Tensor, zero: Tensor | None, what: str) -> Tensor:
    """(x - zero) * scale in float32, of 8-bit x with one scale."""
    if x.dtype not in BYTES or scale.dtype != "float32" or (zero is not None and zero.dtype != x.dtype):
        kinds = f"{x.dtype} with a scale of {scale.dtype}" + (f" and a zero point of {zero.dtype}" if zero else "")
        raise Unsupported(f"{what} of {kinds}", "int8 or uint8, the zero point alike, a float32 scale")
    by = single(scale, f"{what}'s scale")
    offset = None if zero is None else single(zero, f"{what}'s zero point")

    def of(*i: Any) -> tirx.Expr:
        value = x(*i).astype("int32")
        return (value if offset is None else value - offset(*i).astype("int32")).astype("float32") * by(*i)

    return compute(x.shape, "float32", of, [t for t in (x, scale, zero) if t is not None], "dequantize")


def whole(value: Tensor, scale: Tensor, zero: Tensor | None, dtype: str, name: str) -> Tensor:
    """A float32 tensor as 8-bit `dtype` with one scale: saturate(round_half_to_even(value / scale) + zero)."""
    if scale.dtype != "float32" or (zero is not None and zero.dtype != dtype):
        raise Unsupported(f"an output of {dtype} with another type's zero point", "one of the output's type")
    by = single(scale, "the output's scale")
    offset = None if zero is None else single(zero, "the output's zero point")

    def of(*i: Any) -> tirx.Expr:
        return requantize(value(*i) / by(*i), None if offset is None else offset(*i), dtype)

    return compute(value.shape, dtype, of, [t for t in (value, scale, zero) if t is not None], name)


def as_float(node: Node, inputs: Sequence[Tensor], attrs: dict[str, Any] | None = None) -> Node:
    """The node as the float operator in its middle sees it."""
    given = dict(node.attrs) if attrs is None else attrs
    return replace(node, inputs=list(inputs), attrs=given, constants=[None] * len(inputs))


def unary(node: Node, middle: Callable[[Tensor], Tensor]) -> Tensor:
    """Inputs X, its scale and zero point, the output's scale and zero point; `middle` computes in float32."""
    x = node.need(0)
    value = middle(real(x, node.need(1), node.input(2), "X"))
    return whole(value, node.need(3), node.input(4), x.dtype, node.op.lower())


def binary(node: Node, middle: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> Tensor:
    """Inputs A and B, each with scale and zero point, and the output's; broadcast."""
    a, b = node.need(0), node.need(3)
    if a.dtype != b.dtype:
        raise Unsupported(f"{node.op} of {a.dtype} and {b.dtype}", "operands of one type")
    pair = [real(a, node.need(1), node.input(2), "A"), real(b, node.need(4), node.input(5), "B")]
    value = map_broadcast(pair, "float32", middle, "sum")
    return whole(value, node.need(6), node.input(7), a.dtype, node.op.lower())


@op("QLinearAdd", kind="elementwise", domain=MS)
def qlinear_add(node: Node) -> Tensor:
    """A + B."""
    return binary(node, lambda a, b: a + b)


@op("QLinearMul", kind="elementwise", domain=MS)
def qlinear_mul(node: Node) -> Tensor:
    """A * B."""
    return binary(node, lambda a, b: a * b)


@op("QLinearSigmoid", kind="elementwise", domain=MS)
def qlinear_sigmoid(node: Node) -> Tensor:
    """1 / (1 + e^-X)."""
    return unary(node, lambda x: compute(x.shape, "float32", lambda *i: fn.sigmoid(x(*i)), [x], "sigmoid"))


@op("QLinearLeakyRelu", kind="elementwise", domain=MS)
def qlinear_leaky_relu(node: Node) -> Tensor:
    """X where it is positive, else alpha * X (0.01 unless said)."""
    alpha = float(node.attr("alpha", 0.01))

    def leaky(x: tirx.Expr) -> tirx.Expr:
        return fn.select(x < fn.like(0, x), fn.like(alpha, x) * x, x)

    return unary(node, lambda x: compute(x.shape, "float32", lambda *i: leaky(x(*i)), [x], "leaky_relu"))


@op("QLinearSoftmax", domain=MS)
def qlinear_softmax(node: Node) -> Tensor:
    """Softmax along `axis`; attribute `opset` says whether of all axes from there on (before 13) or of that alone.

    ONNX Runtime takes the output's steps in 1 as a whole number (it rounds 1 / scale down), so here too.
    """
    before = int(node.attr("opset")) < 13
    attrs = {name: value for name, value in node.attrs.items() if name == "axis"}
    run = softmax_flattened if before else softmax
    one = tirx.const(1.0, "float32")

    def steps(scale: Tensor) -> Tensor:
        return compute(scale.shape, "float32", lambda *i: one / fn.floor(one / scale(*i)), [scale], "scale")

    x, scale = node.need(0), node.need(3)
    value = run(replace(as_float(node, [real(x, node.need(1), node.input(2), "X")], attrs), op="Softmax"))
    return whole(value, steps(scale), node.input(4), x.dtype, "qlinear_softmax")


@op("QLinearGlobalAveragePool", domain=MS)
def qlinear_global_average_pool(node: Node) -> Tensor:
    """The mean of every channel, which is axis 1, or the last with channels_last."""
    pool = global_average_pool2d if node.attr("channels_last", 0) else global_average_pool
    return unary(node, lambda x: pool(as_float(node, [x])))


@op("QLinearAveragePool", domain=MS)
def qlinear_average_pool(node: Node) -> Tensor:
    """AveragePool; with channels_last of [N, spatial, C]."""
    if not node.attr("channels_last", 0):
        return unary(node, lambda x: average_pool(as_float(node, [x])))
    kernel = [int(k) for k in node.attr("kernel_shape")]

    def last(i: Sequence[Index]) -> tuple[tuple[Index, ...], Sequence[Index], tuple[Index, ...]]:
        return tuple(i[:1]), i[1:-1], tuple(i[-1:])

    def pool(x: Tensor) -> Tensor:
        win = window(node, x.shape[1:-1], kernel, bool(node.attr("ceil_mode", 0)))
        return averaged(x, win, bool(node.attr("count_include_pad", 0)), last)

    return unary(node, pool)


@op("QLinearConcat", kind="injective", domain=MS)
def qlinear_concat(node: Node) -> Tensor:
    """Inputs: the output's scale and zero point, then a tensor, its scale and its zero point for each part."""
    scale, zero = node.need(0), node.need(1)
    starts = range(2, len(node.inputs), 3)
    parts = [real(node.need(k), node.need(k + 1), node.input(k + 2), f"input {k}") for k in starts]
    return whole(concat(as_float(node, parts)), scale, zero, zero.dtype, "qlinear_concat")


@op("QuantizeLinear", kind="elementwise", domain=MS)
def ms_quantize_linear(node: Node) -> Tensor:
    """ONNX's QuantizeLinear."""
    return quantize_linear(node)


@op("DequantizeLinear", kind="elementwise", domain=MS)
def ms_dequantize_linear(node: Node) -> Tensor:
    """ONNX's DequantizeLinear."""
    return dequantize_linear(node)


@op("QLinearConv", domain=MS)
def ms_qlinear_conv(node: Node) -> Tensor:
    """ONNX's QLinearConv; its channels_last is what ONNX Runtime makes for itself and no exporter writes."""
    if node.attr("channels_last", 0):
        raise Unsupported("QLinearConv with channels_last", "QLinearConv of [N, C, spatial]")
    return qlinear_conv(node)
