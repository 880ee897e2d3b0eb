"""Linear quantization: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.rounding import divides_by_multiplying, to_integer
from targets.kernels.rounding import quantized as quantize_by
from targets.kernels.tensor import Index, Tensor, as_expr, compute, same_dim
from targets.kernels.vmath import let

from . import mathfn as fn
from . import narrow
from .cast import element_type
from .numbers import ceildiv, floordiv, need_float, wide
from .reduction import reduce_axes
from .registry import Node, Unsupported, op
from .shapes import axis_of

INTEGERS = ("int8", "uint8", "int16", "uint16", *narrow.INTEGERS)
SCALES = ("float32", "float16", "bfloat16")


def limits(dtype: str) -> tuple[int, int]:
    """The least and the largest number of an integer type."""
    bits = fn.bits_of(dtype)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if fn.is_signed(dtype) else (0, (1 << bits) - 1)


def any_type(number: int) -> str:
    """The name of an ONNX element type, the narrow ones included. Raises Unsupported for strings."""
    return narrow.TYPES.get(number) or element_type(number)


def integer(x: tirx.Expr, dtype: str) -> tirx.Expr:
    """An element of an integer type as int32."""
    return narrow.decode(x, dtype) if dtype in narrow.NAMES else x.astype("int32")


def requantize(value: tirx.Expr, zero: tirx.Expr | None, dtype: str) -> tirx.Expr:
    """saturate(round_half_to_even(value) + zero) for a float32 value; a NaN gives the least number.

    The value is clamped before it is converted, so every one converts; bounds of 16-bit types are exact in float32.
    """
    low, high = (as_expr(v, "int32") for v in limits(dtype))
    offset = as_expr(0, "int32") if zero is None else integer(zero, dtype)
    least, most = (low - offset).astype("float32"), (high - offset).astype("float32")
    # the second operand is what TVM's max gives where the first is a NaN
    held = tirx.min(tirx.max(fn.round_even(value), least), most)
    whole = held.astype("int32") + offset
    return narrow.encode(whole, dtype) if dtype in narrow.NAMES else whole.astype(dtype)


def parameter(node: Node, t: Tensor, x: Tensor, what: str) -> Callable[..., tirx.Expr]:
    """A reader at x's indices of a scale or zero point: one, one for each position along `axis`, or blocks of them."""
    if t.ndim <= 1 and all(isinstance(d, int) and d == 1 for d in t.shape):
        return lambda *i: t(*[as_expr(0)] * t.ndim)
    axis, block = axis_of(int(node.attr("axis", 1)), x.ndim), int(node.attr("block_size", 0))
    if block == 0:
        if t.ndim != 1 or not same_dim(t.shape[0], x.shape[axis]):
            raise Unsupported(f"{what} of shape {t.shape} along axis {axis} of {x.shape}", "one for each position")
        return lambda *i: t(i[axis])
    blocks = [ceildiv(d, block) if a == axis and block > 0 else d for a, d in enumerate(x.shape)]
    if block < 0 or t.ndim != x.ndim or not all(same_dim(d, e) for d, e in zip(t.shape, blocks, strict=True)):
        raise Unsupported(f"{what} of shape {t.shape} for {x.shape} in blocks of {block}", "one for each block")
    return lambda *i: t(*[floordiv(k, block) if a == axis else k for a, k in enumerate(i)])


def rounded(value: tirx.Expr, dtype: str) -> tirx.Expr:
    """A float32 rounded to the values of `dtype`, where that is narrower."""
    return value if wide(dtype) == dtype else value.astype(dtype).astype("float32")


def _number(node: Node, i: int) -> float | None:
    """Input i where it is one number known at compile time."""
    value = node.const(i)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 and value.dtype.kind in "iuf" else None


@op("QuantizeLinear", since=10, kind="elementwise")
def quantize_linear(node: Node) -> Tensor:
    """saturate(round(x / y_scale) + y_zero_point), divided in `precision`, which is y_scale's type unless said.

    The zero point of a float type is 0, as ONNX wants it: only its type is looked at.
    """
    x, scale, zero = node.need(0), node.need(1), node.input(2)
    dtype = any_type(node.attr("output_dtype")) if node.attr("output_dtype") else "uint8"
    dtype = dtype if zero is None else zero.dtype
    if dtype not in (*INTEGERS, *narrow.FLOATS):
        raise Unsupported(f"quantization to {dtype}", "integers of 2 to 16 bits, float8 or float4")
    precision = element_type(node.attr("precision")) if node.attr("precision") else scale.dtype
    if precision not in SCALES or scale.dtype not in SCALES or x.dtype not in (*SCALES, "int32"):
        raise Unsupported(f"{x.dtype} divided by a scale of {scale.dtype}", "float32")
    by = parameter(node, scale, x, "scale")
    offset = None if zero is None else parameter(node, zero, x, "zero point")
    known = 0 if zero is None else _number(node, 2)  # a zero point that code can hold
    divisor = _number(node, 1) if x.dtype == scale.dtype == precision == "float32" else None
    saturate = bool(node.attr("saturate", 1))

    def of(*i: Index) -> tirx.Expr:
        whole = known is not None and dtype not in narrow.NAMES
        if whole and divisor is not None and divides_by_multiplying(divisor):
            return quantize_by(x(*i), divisor, int(known or 0), *limits(dtype), dtype)
        # a quotient of two 11-bit numbers rounded to float32, then to 11 bits, is rounded as if once
        top, bottom = (rounded(v.astype("float32"), precision) for v in (x(*i), by(*i)))
        value = rounded(top / bottom, precision)
        if dtype in narrow.FLOATS:
            return narrow.encode(value, dtype, saturate)
        if whole:
            return to_integer(value, int(known or 0), *limits(dtype), dtype)
        return requantize(value, None if offset is None else offset(*i), dtype)

    return compute(x.shape, dtype, of, [t for t in (x, scale, zero) if t is not None], "quantize")


@op("DequantizeLinear", since=10, kind="elementwise")
def dequantize_linear(node: Node) -> Tensor:
    """(x - x_zero_point) * x_scale in float32, rounded to the scale's type or output_dtype."""
    x, scale, zero = node.need(0), node.need(1), node.input(2)
    dtype = element_type(node.attr("output_dtype")) if node.attr("output_dtype") else scale.dtype
    need_float(dtype, node.op)
    if x.dtype not in (*INTEGERS, "int32", *narrow.FLOATS) or scale.dtype not in SCALES:
        raise Unsupported(f"{x.dtype} with a scale of {scale.dtype}", "8-bit, 16-bit or int32 with a float32 scale")
    if zero is not None and zero.dtype != x.dtype:
        raise Unsupported(f"a zero point of {zero.dtype} for {x.dtype}", "a zero point of the input's type")
    by = parameter(node, scale, x, "scale")
    offset = None if zero is None else parameter(node, zero, x, "zero point")
    small = x.dtype != "int32"  # differences of at most 16 bits do not wrap, and need no care
    known = _number(node, 2) if small and zero is not None else None

    def of(*i: Index) -> tirx.Expr:
        if x.dtype in narrow.FLOATS:
            return (narrow.decode(x(*i), x.dtype) * by(*i).astype("float32")).astype(dtype)
        value = integer(x(*i), x.dtype)
        if known:
            value = value - as_expr(int(known), "int32")
        elif offset is not None and known is None:
            minus = value.__sub__ if small else lambda by: fn.sub(value, by)
            value = minus(integer(offset(*i), x.dtype))
        return (value.astype("float32") * by(*i).astype("float32")).astype(dtype)

    return compute(x.shape, dtype, of, [t for t in (x, scale, zero) if t is not None], "dequantize")


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(node: Node) -> Sequence[Tensor]:
    """x in uint8 over the range of its values and 0; then scale and zero point. Where all are 0 the scale is 1.

    That last as in ONNX Runtime; ONNX's formula would divide 0 by 0.
    """
    x = node.need(0)
    if x.dtype != "float32":
        raise Unsupported(f"DynamicQuantizeLinear of {x.dtype}", "float32")
    least, most = (reduce_axes(x, list(range(x.ndim)), False, kind, x.dtype) for kind in ("min", "max"))
    zero32, one32, steps = (fn.const(v, "float32") for v in (0.0, 1.0, 255.0))

    def span() -> tirx.Expr:
        width = fn.maximum(most(), zero32) - fn.minimum(least(), zero32)
        return let(width, lambda v: fn.select(tirx.EQ(v, zero32), one32, v / steps))

    def centre() -> tirx.Expr:
        return requantize(zero32 - fn.minimum(least(), zero32) / scale(), None, "uint8")

    scale = compute((), "float32", span, [least, most], "scale")
    zero = compute((), "uint8", centre, [least, scale], "zero_point")
    y = compute(x.shape, "uint8", lambda *i: requantize(x(*i) / scale(), zero(), "uint8"), [x, scale, zero], "quantize")
    return [y, scale, zero]
