"""Cast, CastLike and BitCast."""

from __future__ import annotations

import onnx
from tvm import tirx

from targets.kernels.tensor import Tensor

from . import mathfn as fn
from . import narrow
from .elementwise import unary
from .registry import Node, Unsupported, op

NUMBERS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64", onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16", onnx.TensorProto.BOOL: "bool", onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.INT16: "int16", onnx.TensorProto.INT32: "int32", onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.UINT16: "uint16", onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.UINT64: "uint64",
}  # fmt: skip


def element_type(number: int) -> str:
    """The name of an ONNX element type. Raises Unsupported for those without arithmetic here (string, float8, int4)."""
    if number not in NUMBERS:
        name = onnx.TensorProto.DataType.Name(number)
        raise Unsupported(f"element type {name}", "float, integer and bool types of 8 to 64 bits")
    return NUMBERS[number]


def numeric(t: Tensor) -> Tensor:
    """`t`, when its elements are of a type in NUMBERS. Raises Unsupported otherwise."""
    if t.dtype not in NUMBERS.values():
        raise Unsupported(f"element type {t.dtype}", "float, integer and bool types of 8 to 64 bits")
    return t


@op("Cast", since=6, kind="elementwise")
def cast(node: Node) -> Tensor:
    """`saturate` concerns float8 only; float to integer out of range is undefined in ONNX and saturates here."""
    number = node.attr("to")
    return converted(node, narrow.TYPES.get(number) or element_type(number))


@op("CastLike", since=15, kind="elementwise")
def cast_like(node: Node) -> Tensor:
    """To the type of the second input."""
    like = node.need(1)
    return converted(node, like.dtype if like.dtype in narrow.NAMES else numeric(like).dtype)


def converted(node: Node, dtype: str) -> Tensor:
    """Input 0 as `dtype`, of which either may be one of the narrow types."""
    x = node.need(0)
    saturate = bool(node.attr("saturate", 1))
    if x.dtype not in narrow.NAMES:
        numeric(x)
    if dtype == narrow.SCALE and (not saturate or node.attr("round_mode", "up") != "up"):
        raise Unsupported(f"{dtype} rounded {node.attr('round_mode', 'up')}", "rounded up with saturate=1")
    if dtype in narrow.NAMES and x.dtype == "float64":
        raise Unsupported(f"float64 to {dtype}", "a Cast to float32 first")  # which would round twice

    def of(v: tirx.Expr) -> tirx.Expr:
        value = narrow.decode(v, x.dtype) if x.dtype in narrow.NAMES else v
        return narrow.encode(value, dtype, saturate) if dtype in narrow.NAMES else fn.convert(value, dtype)

    return unary(node, of, dtype)


@op("BitCast", since=26)
def bit_cast(node: Node) -> Tensor:
    """The same bits as another type of equal width."""
    x = numeric(node.need(0))
    dtype = element_type(node.attr("to"))
    if fn.bits_of(x.dtype) != fn.bits_of(dtype):
        raise Unsupported(f"BitCast of {x.dtype} to {dtype}", "a type of equal width")

    def of(v: tirx.Expr) -> tirx.Expr:
        if x.dtype == "bool":
            return v.astype("uint8") if dtype == "uint8" else v.astype(dtype)
        if dtype == "bool":
            return tirx.NE(v, fn.like(0, v))
        return tirx.reinterpret(dtype, v)

    return unary(node, of, dtype)
