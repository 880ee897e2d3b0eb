"""Cast, CastLike and BitCast."""

from __future__ import annotations

import onnx
from tvm import tirx

from targets.kernels.tensor import Tensor

from . import mathfn as fn
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
    numeric(node.need(0))
    dtype = element_type(node.attr("to"))
    return unary(node, lambda x: fn.convert(x, dtype), dtype)


@op("CastLike", since=15, kind="elementwise")
def cast_like(node: Node) -> Tensor:
    """To the type of the second input."""
    numeric(node.need(0))
    dtype = numeric(node.need(1)).dtype
    return unary(node, lambda x: fn.convert(x, dtype), dtype)


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
