"""Scalar functions on TIR expressions with ONNX's semantics for each element type.

float16 and bfloat16 are computed in float32 and rounded once; integers wrap on overflow and never trap; comparisons are
written so that a NaN passes through. Functions that vectorise come from targets.kernels.vmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from targets.kernels import vmath
from targets.kernels.tensor import Scalar, as_expr, intrinsic

from .hyperbolic import acosh, asinh, atanh, expm1, log1p, log1p_inside
from .integers import add, guarded, int_power, mul, sub, wrapping
from .scalar import (
    NARROW,
    accumulator,
    bits_of,
    const,
    dtype_of,
    is_float,
    is_inf,
    is_nan,
    is_signed,
    let,
    like,
    select,
    single,
    widen,
)  # fmt: skip


def llvm(name: str) -> Callable[[Scalar], Scalar]:
    """LLVM's intrinsic for a libm function of one argument.

    Not call_pure_extern: TVM scalarises a vector loop with such a call wrongly where its value is bound to a name.
    """
    return widen(lambda x: intrinsic(dtype_of(x), name, x))


exp, log, tanh, sigmoid, erf = (widen(f) for f in (vmath.exp, vmath.log, vmath.tanh, vmath.sigmoid, vmath.erf))
sqrt = widen(tirx.sqrt)
floor, ceil, trunc = widen(tirx.floor), widen(tirx.ceil), widen(tirx.trunc)
round_even = widen(tirx.nearbyint)
sin, cos, tan = llvm("sin"), llvm("cos"), llvm("tan")
asin, acos, atan = llvm("asin"), llvm("acos"), llvm("atan")
sinh, cosh = llvm("sinh"), llvm("cosh")


def maximum(a: Scalar, b: Scalar) -> Scalar:
    """The larger; a NaN if either is one."""
    bounded = _bound(tirx.max, a, b)
    return _extreme(a, b, lambda x, y: x > y) if bounded is None else bounded


def minimum(a: Scalar, b: Scalar) -> Scalar:
    """The smaller; a NaN if either is one."""
    bounded = _bound(tirx.min, a, b)
    return _extreme(a, b, lambda x, y: x < y) if bounded is None else bounded


def _bound(extreme: Callable[[Scalar, Scalar], Scalar], a: Scalar, b: Scalar) -> Scalar | None:
    """One instruction where one side is a number. It stands first: LLVM's maximum and minimum give the second operand
    when either is a NaN."""
    limit, x = (a, b) if isinstance(a, tirx.FloatImm) else (b, a)
    return extreme(limit, x) if isinstance(limit, tirx.FloatImm) and not math.isnan(float(limit.value)) else None


def _extreme(a: Scalar, b: Scalar, better: Callable[[Scalar, Scalar], Scalar]) -> Scalar:
    if not is_float(dtype_of(a)):
        return let(a, lambda x: let(b, lambda y: select(better(x, y), x, y)))
    # x wins when better or when it is a NaN; otherwise y, which is then the better one or a NaN
    return let(a, lambda x: let(b, lambda y: select(tirx.any(better(x, y), is_nan(x)), x, y)))


def relu(x: Scalar) -> Scalar:
    """max(x, 0); a NaN stays one."""
    return maximum(like(0, x), x)


def power(a: Scalar, b: Scalar) -> Scalar:
    """a ** b in a's type: float through libm's pow, integers by squaring (wrapping)."""
    if not is_float(dtype_of(a)):
        if is_float(dtype_of(b)):
            return saturate(power(a.astype("float64"), b.astype("float64")), dtype_of(a))
        return int_power(a, b)
    dtype = dtype_of(a)
    wide = "float32" if dtype in NARROW else dtype
    wide = "float64" if dtype_of(b) == "float64" else wide
    known = float(b.value) if isinstance(b, tirx.FloatImm | tirx.IntImm) else None
    x = single(a).astype(wide) if wide != dtype else a
    value = _known_power(x, known) if known is not None else None
    if value is None:
        value = tirx.pow(x, single(b).astype(wide))
    return value if wide == dtype else value.astype(dtype)


def _known_power(x: Scalar, exponent: float) -> Scalar | None:
    """The powers that graphs really hold, without pow. x^0.5 is not sqrt at minus infinity and minus zero: left out."""
    return {
        1.0: lambda: x,
        2.0: lambda: let(x, lambda v: v * v),
        3.0: lambda: let(x, lambda v: v * v * v),
        -1.0: lambda: like(1, x) / x,
    }.get(exponent, lambda: None)()


def neg(x: Scalar) -> Scalar:
    """-x; the lowest integer stays itself."""
    return sub(like(0, x), x) if not is_float(dtype_of(x)) else like(-1, x) * x


def absolute(x: Scalar) -> Scalar:
    """|x|; the lowest integer stays itself."""
    dtype = dtype_of(x)
    if is_float(dtype):
        return widen(tirx.abs)(x)
    return let(x, lambda v: select(v < like(0, v), neg(v), v)) if is_signed(dtype) else x


def divide(a: Scalar, b: Scalar) -> Scalar:
    """a / b; integers truncate as in C. Division by zero gives 0 and the lowest number over -1 wraps: neither traps."""
    if is_float(dtype_of(a)):
        return a / b
    return guarded(a, b, tirx.truncdiv, neg)


def remainder(a: Scalar, b: Scalar, c_style: bool) -> Scalar:
    """The remainder with the sign of b (Python's %), or with the sign of a (C's, fmod). Integers over 0 give 0."""
    if is_float(dtype_of(a)):
        return widen(lambda x, y: _float_remainder(x, y, c_style))(a, b)
    rest = guarded(a, b, tirx.truncmod, lambda x: like(0, x))
    if c_style or not is_signed(dtype_of(a)):
        return rest
    return _with_sign_of(b, rest)


def _float_remainder(a: Scalar, b: Scalar, c_style: bool) -> Scalar:
    rest = tirx.Mod(a, b)  # LLVM's frem, C's fmod
    return rest if c_style else _with_sign_of(b, rest)


def _with_sign_of(b: Scalar, rest: Scalar) -> Scalar:
    """A remainder of a division by `b` that has the dividend's sign, as the one with b's sign."""

    def signed(r: Scalar, y: Scalar) -> Scalar:
        wrong = select(r < like(0, r), y > like(0, y), tirx.all(r > like(0, r), y < like(0, y)))
        return select(wrong, r + y, r)

    return let(b, lambda y: let(rest, lambda r: signed(r, y)))


def saturate(x: Scalar, dtype: str) -> Scalar:
    """A float rounded towards zero to integer `dtype`: out of range gives the nearest end, NaN gives 0."""
    bits, signed = bits_of(dtype), is_signed(dtype)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    x = single(x)

    def clamp(v: Scalar) -> Scalar:
        # float(high) may round up to high + 1, which is out of range: compare with that
        value = select(v >= like(float(high), v), const(high, dtype), v.astype(dtype))
        value = select(v <= like(float(low), v), const(low, dtype), value)
        return select(is_nan(v), const(0, dtype), value)

    return let(x, clamp)


def convert(x: Scalar, dtype: str) -> Scalar:
    """x as `dtype` (ONNX Cast without float8): to bool is != 0, float to integer saturates, integers wrap."""
    source = dtype_of(x)
    if source == dtype:
        return x
    if dtype == "bool":
        x = single(x)
        return tirx.NE(x, like(0, x))
    if is_float(source) and not is_float(dtype):
        return saturate(x, dtype)
    if source == "bfloat16":
        return single(x).astype(dtype)
    if source == "float64" and dtype in NARROW or dtype == "bfloat16" and not is_float(source):
        return as_expr(x, "float32").astype(dtype)
    return x.astype(dtype)


__all__ = [
    "NARROW", "absolute", "accumulator", "acos", "acosh", "add", "asin", "asinh", "atan", "atanh", "bits_of",
    "ceil", "const", "convert", "cos", "cosh", "divide", "dtype_of", "erf", "exp", "expm1", "floor", "is_float",
    "is_inf", "is_nan", "is_signed", "let", "like", "llvm", "log", "log1p", "log1p_inside", "maximum",
    "minimum", "mul", "neg", "power", "relu", "remainder", "round_even", "saturate", "select", "sigmoid", "sin",
    "single", "sinh", "sqrt", "sub", "tan", "tanh", "trunc", "widen", "wrapping",
]  # fmt: skip
