"""ONNX element types and the names the compiler uses for them (numpy's, and ml_dtypes' where numpy has none)."""

from __future__ import annotations

import onnx_ir as ir

NAMES: dict[ir.DataType, str] = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.DOUBLE: "float64",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.BOOL: "bool",
    ir.DataType.INT8: "int8",
    ir.DataType.INT16: "int16",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.UINT8: "uint8",
    ir.DataType.UINT16: "uint16",
    ir.DataType.UINT32: "uint32",
    ir.DataType.UINT64: "uint64",
    ir.DataType.FLOAT8E4M3FN: "float8_e4m3fn",
    ir.DataType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    ir.DataType.FLOAT8E5M2: "float8_e5m2",
    ir.DataType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    ir.DataType.FLOAT8E8M0: "float8_e8m0fnu",
    ir.DataType.INT4: "int4",
    ir.DataType.UINT4: "uint4",
    ir.DataType.FLOAT4E2M1: "float4_e2m1fn",
    ir.DataType.INT2: "int2",
    ir.DataType.UINT2: "uint2",
    ir.DataType.COMPLEX64: "complex64",
    ir.DataType.COMPLEX128: "complex128",
}
ONNX_TYPES = {name: dtype for dtype, name in NAMES.items()}


def dtype_name(dtype: ir.DataType | None) -> str | None:
    """The compiler's name of an ONNX element type; None for strings and unknown types."""
    return None if dtype is None else NAMES.get(dtype)


def onnx_dtype(name: str) -> ir.DataType:
    """The ONNX element type of a name. Raises KeyError."""
    return ONNX_TYPES[name]
