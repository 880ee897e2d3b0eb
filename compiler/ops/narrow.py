"""Conversions of the types narrower than numpy's: 8-bit and 4-bit floats, 4-bit and 2-bit integers.

In expressions such an element is its bits, in a uint8, of which it takes the lowest. Formats: ONNX "Float stored in 8
bits", OCP Microscaling (MX) for float4 and e8m0.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from tvm import tirx

from targets.kernels.vmath import let

from . import mathfn as fn


@dataclass(frozen=True)
class Format:
    """A float's sizes in bits, the exponent's bias, the largest magnitude, and what stands for the special values."""

    bits: int
    mantissa: int
    bias: int
    largest: int
    nan: int | None
    infinity: int | None = None
    negative_zero: bool = True  # without it (the "uz" types) the bits of -0 are the only NaN

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.bits - 1)


FLOATS = {
    "float8_e4m3fn": Format(8, 3, 7, 0x7E, 0x7F),
    "float8_e5m2": Format(8, 2, 15, 0x7B, 0x7F, 0x7C),
    "float8_e4m3fnuz": Format(8, 3, 8, 0x7F, 0x80, negative_zero=False),
    "float8_e5m2fnuz": Format(8, 2, 16, 0x7F, 0x80, negative_zero=False),
    "float4_e2m1fn": Format(4, 1, 1, 0x7, None),
}
SCALE = "float8_e8m0fnu"  # a power of two: an exponent and nothing else
INTEGERS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
NAMES = (*FLOATS, SCALE, *INTEGERS)
TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT8E4M3FN: "float8_e4m3fn", onnx.TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    onnx.TensorProto.FLOAT8E5M2: "float8_e5m2", onnx.TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    onnx.TensorProto.FLOAT8E8M0: SCALE, onnx.TensorProto.FLOAT4E2M1: "float4_e2m1fn",
    onnx.TensorProto.INT4: "int4", onnx.TensorProto.UINT4: "uint4", onnx.TensorProto.INT2: "int2",
    onnx.TensorProto.UINT2: "uint2",
}  # fmt: skip


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int32")


def _single(bits: tirx.Expr) -> tirx.Expr:
    return tirx.reinterpret("float32", bits)


def decode(x: tirx.Expr, dtype: str) -> tirx.Expr:
    """The value of these bits: exact, as float32, of integers as int32."""
    bits = x.astype("int32")
    if dtype in INTEGERS:
        empty = _i(32 - INTEGERS[dtype])
        if fn.is_signed(dtype):
            return (bits << empty) >> empty
        return bits & _i((1 << INTEGERS[dtype]) - 1)
    if dtype == SCALE:
        return let(bits, _decode_scale)
    f = FLOATS[dtype]

    def of(u: tirx.Expr, magnitude: tirx.Expr) -> tirx.Expr:
        normal = _single((magnitude << _i(23 - f.mantissa)) + _i((127 - f.bias) << 23))
        small = magnitude.astype("float32") * tirx.const(2.0 ** (1 - f.bias - f.mantissa), "float32")
        value = fn.select(magnitude < _i(1 << f.mantissa), small, normal)
        if f.infinity is not None:
            value = fn.select(tirx.EQ(magnitude, _i(f.infinity)), tirx.const(float("inf"), "float32"), value)
        value = fn.select(tirx.NE(u & _i(f.sign), _i(0)), tirx.const(-1.0, "float32") * value, value)
        if f.nan is None:
            return value
        nan = tirx.EQ(u, _i(f.nan)) if not f.negative_zero else magnitude > _i(f.infinity or f.largest)
        return fn.select(nan, _single(_i(0x7FC00000)), value)

    return let(bits, lambda u: let(u & _i(f.sign - 1), lambda magnitude: of(u, magnitude)))


def _decode_scale(u: tirx.Expr) -> tirx.Expr:
    power = _single(fn.select(tirx.EQ(u, _i(0)), _i(1 << 22), u << _i(23)))
    return fn.select(tirx.EQ(u, _i(255)), _single(_i(0x7FC00000)), power)


def encode(x: tirx.Expr, dtype: str, saturate: bool = True) -> tirx.Expr:
    """The bits of a value as `dtype`; floats come as float32 and are rounded half to even, to SCALE up.

    Beyond the largest number, infinity too: that number if `saturate` (or where there is nothing else), otherwise
    infinity or NaN. A float as an integer is cut off; integers wrap. NaN as float4 is -0, as in ONNX's cases.
    """
    if dtype in INTEGERS:
        mask = _i((1 << INTEGERS[dtype]) - 1)
        whole = fn.saturate(x, "int32") if fn.is_float(fn.dtype_of(x)) else x.astype("int32")
        return (whole & mask).astype("uint8")
    x = x.astype("float32")
    bits = tirx.reinterpret("int32", x)
    if dtype == SCALE:
        return let(bits, _encode_scale)
    f = FLOATS[dtype]
    return let(bits, lambda b: let(b & _i(0x7FFFFFFF), lambda magnitude: _encode(b, magnitude, f, saturate)))


def _encode(bits: tirx.Expr, magnitude: tirx.Expr, f: Format, saturate: bool) -> tirx.Expr:
    """`bits` of a float32 and the same without the sign."""
    shift = 23 - f.mantissa
    halfway = _i((1 << (shift - 1)) - 1) + ((magnitude >> _i(shift)) & _i(1))
    normal = ((magnitude + halfway) >> _i(shift)) - _i((127 - f.bias) << f.mantissa)
    # numbers below the least normal one are multiples of one step; clamped, so that all of them convert
    step = tirx.const(2.0 ** (f.bias - 1 + f.mantissa), "float32")
    least = _i((128 - f.bias) << 23)
    small = fn.round_even(_single(tirx.min(magnitude, least)) * step).astype("int32")
    beyond = f.largest
    if not saturate:
        beyond = next(v for v in (f.infinity, f.nan, f.largest) if v is not None)

    def whole(code: tirx.Expr) -> tirx.Expr:
        code = fn.select(code > _i(f.largest), _i(beyond), code)
        nan = magnitude > _i(0x7F800000)
        code = fn.select(nan, _i(f.sign if f.nan is None else f.nan), code)
        negative = bits < _i(0)
        if not f.negative_zero:
            negative = tirx.all(negative, code > _i(0))
        return fn.select(negative, code | _i(f.sign), code).astype("uint8")

    return let(fn.select(magnitude < least, small, normal), whole)


def _encode_scale(bits: tirx.Expr) -> tirx.Expr:
    """The next power of two from 2^-127 to 2^127; NaN stays one. Of negative numbers ONNX leaves it open."""
    exponent = (bits >> _i(23)) & _i(0xFF)
    fraction = bits & _i(0x7FFFFF)
    above = fn.select(tirx.EQ(exponent, _i(0)), fraction > _i(1 << 22), fraction > _i(0))
    code = tirx.min(exponent + above.astype("int32"), _i(0xFE))
    nan = (bits & _i(0x7FFFFFFF)) > _i(0x7F800000)
    return fn.select(nan, _i(0xFF), code).astype("uint8")
