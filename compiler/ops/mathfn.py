"""Scalar functions on TIR expressions with ONNX's semantics for each element type.

float16 and bfloat16 are computed in float32 and rounded once; integers wrap on overflow and never trap; comparisons are
written so that a NaN passes through. Functions that vectorise come from targets.kernels.vmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad

from targets.kernels import vmath
from targets.kernels.tensor import Scalar, as_expr
from targets.kernels.vmath import let

NARROW = ("float16", "bfloat16")



def dtype_of(x: Scalar) -> str:
    return str(x.ty.dtype)


def is_float(dtype: str) -> bool:
    return "float" in dtype


def is_signed(dtype: str) -> bool:
    return dtype.startswith("int")


def bits_of(dtype: str) -> int:
    """The width of a number type; 8 for bool."""
    return 8 if dtype == "bool" else int("".join(c for c in dtype.split("_")[0] if c.isdigit()))


def accumulator(dtype: str) -> str:
    """The type in which sums and products over `dtype` are held."""
    return "float32" if dtype in NARROW else dtype


def const(value: float | int | bool, dtype: str) -> Scalar:
    """A constant of `dtype`; integers that do not fit wrap."""
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    if not is_float(dtype):
        bits, value = bits_of(dtype), int(value)
        value &= (1 << bits) - 1
        if is_signed(dtype) and value >> (bits - 1):
            value -= 1 << bits
        if value >= 1 << 63:  # IntImm holds an int64
            return tirx.reinterpret(dtype, tirx.const(value - (1 << 64), "int64"))
    return tirx.const(value, dtype)


def like(value: float | int, x: Scalar) -> Scalar:
    """A constant of x's type."""
    return const(value, dtype_of(x))


def single(x: Scalar) -> Scalar:
    """A float16 or bfloat16 as the float32 of the same value; other types as they are.

    TVM's legalisation does not look into what is bound to a name, where a cast to bfloat16 would reach LLVM and crash it.
    So a bfloat16 that was just made from a float32 gives that back: exactly, rounding it by hand where need be.
    """
    dtype = dtype_of(x)
    if dtype == "bfloat16" and isinstance(x, tirx.Cast) and dtype_of(x.value) == "float32":
        value = x.value
        return value if _is_held(value) else let(value, _round_to_bfloat16)
    return x.astype("float32") if dtype in NARROW else x


def _is_held(x: Scalar) -> bool:
    """Whether x is a load, or the upper half of a float32 put in place: rounded already."""
    if isinstance(x, Call) and x.op.name == "tirx.reinterpret":
        return isinstance(x.args[0], tirx.LShift)
    return isinstance(x, TensorLoad)


def _round_to_bfloat16(x: Scalar) -> Scalar:
    """A float32 to the nearest (half to even) that has only the upper 16 bits set; a NaN stays one."""
    bits = tirx.reinterpret("uint32", x)
    odd = tirx.shift_right(bits, const(16, "uint32")) & const(1, "uint32")
    rounded = (bits + const(0x7FFF, "uint32") + odd) & const(0xFFFF0000, "uint32")
    return select(is_nan(x), x, tirx.reinterpret("float32", rounded))


def widen(fn: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """`fn` on float16 and bfloat16 through float32; the other types as they are."""

    def wrapped(*args: Scalar) -> Scalar:
        dtype = dtype_of(args[0])
        if dtype in NARROW:
            return fn(*(single(a) for a in args)).astype(dtype)
        return fn(*args)

    return wrapped


def llvm(name: str) -> Callable[[Scalar], Scalar]:
    """LLVM's intrinsic for a libm function of one argument.

    Not call_pure_extern: TVM scalarises a vector loop with such a call wrongly where its value is bound to a name.
    """
    return widen(lambda x: tirx.call_llvm_pure_intrin(dtype_of(x), "llvm." + name, x))


exp, log, tanh, sigmoid, erf = (widen(f) for f in (vmath.exp, vmath.log, vmath.tanh, vmath.sigmoid, vmath.erf))


def select(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
    return tirx.Select(condition, yes, no)


# ---- floats -----------------------------------------------------------------------------------------------------------
sqrt = widen(tirx.sqrt)
floor, ceil, trunc = widen(tirx.floor), widen(tirx.ceil), widen(tirx.trunc)
round_even = widen(tirx.nearbyint)
sin, cos, tan = llvm("sin"), llvm("cos"), llvm("tan")
asin, acos, atan = llvm("asin"), llvm("acos"), llvm("atan")
sinh, cosh = llvm("sinh"), llvm("cosh")


@widen
def log1p(x: Scalar) -> Scalar:
    """log(1 + x) without loss near zero."""

    def body(v: Scalar) -> Scalar:
        edge = tirx.any(v <= like(-1, v), v > like(1e30, v))  # -1 and infinity, where the correction is 0/0
        return select(edge, log(like(1, v) + v), log1p_inside(select(edge, like(0, v), v)))

    return let(x, body)


def log1p_inside(x: Scalar) -> Scalar:
    """log(1 + x) for -1 < x < infinity: log(u) + (x - (u - 1)) / u, where u is 1 + x rounded.

    One logarithm and no condition: nested conditions on bound names take TVM's simplifier exponential time.
    """
    return let(x, lambda v: let(v + like(1, v), lambda u: log(u) + (v - (u - like(1, u))) / u))


@widen
def expm1(x: Scalar) -> Scalar:
    """e^x - 1 without loss near zero; float64 by (u - 1) x / log(u) with u = e^x rounded (Kahan)."""
    if dtype_of(x) == "float32":
        # by 88 the 1 is far below the last digit, and vmath's expm1 is good up to there
        clamp = lambda v: select(v < like(-80, v), like(-80, v), select(v > like(80, v), like(80, v), v))  # noqa: E731
        return let(x, lambda v: select(v > like(80, v), exp(v), let(clamp(v), vmath._expm1)))

    def body(v: Scalar, u: Scalar) -> Scalar:
        d = u - like(1, u)
        far = tirx.any(v > like(1, v), v < like(-1, v), is_nan(v))  # no digits are lost out there
        g = let(log(u), lambda g: select(g == like(0, g), like(1, g), g))
        return select(far, d, select(d == like(0, d), v, d * (v / g)))

    return let(x, lambda v: let(exp(v), lambda u: body(v, u)))


@widen
def asinh(x: Scalar) -> Scalar:
    """log(|x| + sqrt(x^2 + 1)) with x's sign, arranged so that neither small nor large x loses digits."""

    def body(a: Scalar) -> Scalar:
        large = a > like(1e9, a)
        b = select(large, like(1, a), a)  # its square must not overflow
        small = let(b, lambda b: log1p_inside(b + b * b / (like(1, b) + tirx.sqrt(b * b + like(1, b)))))
        return select(large, log(a) + like(0.6931471805599453, a), small)

    return let(x, lambda v: tirx.copysign(let(absolute(v), body), v))


@widen
def acosh(x: Scalar) -> Scalar:
    """log(x + sqrt(x^2 - 1)); NaN below 1."""

    def body(t: Scalar) -> Scalar:
        near = log1p_inside(t + tirx.sqrt(t * t + t + t))
        value = select(t > like(1e9, t), log(t + like(1, t)) + like(0.6931471805599453, t), near)
        return select(t < like(0, t), like(float("nan"), t), value)

    return let(x - like(1, x), body)


@widen
def atanh(x: Scalar) -> Scalar:
    """log((1 + x) / (1 - x)) / 2."""
    return let(x, lambda v: like(0.5, v) * log1p((v + v) / (like(1, v) - v)))


def is_nan(x: Scalar) -> Scalar:
    """Whether x is a NaN (false for integers)."""
    if not is_float(dtype_of(x)):
        return const(False, "bool")
    x = single(x)
    # by the bits: TVM's simplifier takes v != v for false
    if dtype_of(x) == "float32":
        return (tirx.reinterpret("int32", x) & const(0x7FFFFFFF, "int32")) > const(0x7F800000, "int32")
    return (tirx.reinterpret("int64", x) & const(0x7FFFFFFFFFFFFFFF, "int64")) > const(0x7FF0000000000000, "int64")


def is_inf(x: Scalar, positive: bool = True, negative: bool = True) -> Scalar:
    """Whether x is an infinity of a wanted sign."""
    x = single(x)
    inf = float("inf")

    def test(v: Scalar) -> Scalar:
        up = v == like(inf, v) if positive else const(False, "bool")
        down = v == like(-inf, v) if negative else const(False, "bool")
        return tirx.any(up, down)

    return let(x, test)


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
    return maximum(like(0, x), x)


def power(a: Scalar, b: Scalar) -> Scalar:
    """a ** b in a's type: float through libm's pow, integers by squaring (wrapping)."""
    if not is_float(dtype_of(a)):
        if is_float(dtype_of(b)):
            return saturate(power(a.astype("float64"), b.astype("float64")), dtype_of(a))
        return _int_power(a, b)
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


def _int_power(a: Scalar, b: Scalar) -> Scalar:
    dtype = dtype_of(a)
    unsigned = "uint64"
    one = tirx.const(1, unsigned)
    base, left = a.astype("int64").astype(unsigned), b.astype("int64")
    result: Scalar = one

    def step(k: int, result: Scalar, square: Scalar, exponent: Scalar) -> Scalar:
        if k == 6:  # exponents of 64 and more: only 0, 1 and -1 stay exact; every other base wraps
            return result.astype(dtype)
        bit = (exponent >> tirx.const(k, "int64")) & tirx.const(1, "int64")
        grown = select(bit == tirx.const(1, "int64"), result * square, result)
        return let(grown, lambda r: let(square * square, lambda s: step(k + 1, r, s, exponent)))

    def whole(v: Scalar, e: Scalar) -> Scalar:
        # a negative exponent gives 1/base, which truncates to 0 unless the base is 1 or -1 (whose powers repeat with 2)
        minus_one = v == const(-1, unsigned)
        even = let(e & tirx.const(1, "int64"), lambda x: x)
        unit = select(minus_one, select(even == tirx.const(0, "int64"), const(1, dtype), const(-1, dtype)), const(1, dtype))
        is_unit = tirx.any(v == one, minus_one)
        negative = select(e < tirx.const(0, "int64"), const(0, dtype), step(0, result, v, e))
        return select(is_unit, unit, negative)

    return let(base, lambda v: let(left, lambda e: whole(v, e)))


# ---- integers ---------------------------------------------------------------------------------------------------------
def wrapping(fn: Callable[[Scalar, Scalar], Scalar]) -> Callable[[Scalar, Scalar], Scalar]:
    """`fn` on integers modulo 2^bits. Signed ones go through unsigned, where LLVM knows that overflow wraps."""

    def call(a: Scalar, b: Scalar) -> Scalar:
        dtype = dtype_of(a)
        if is_signed(dtype):
            return fn(a.astype("u" + dtype), b.astype("u" + dtype)).astype(dtype)
        return fn(a, b)

    return call


add = wrapping(lambda a, b: a + b)
sub = wrapping(lambda a, b: a - b)
mul = wrapping(lambda a, b: a * b)


def neg(x: Scalar) -> Scalar:
    return sub(like(0, x), x) if not is_float(dtype_of(x)) else like(-1, x) * x


def absolute(x: Scalar) -> Scalar:
    dtype = dtype_of(x)
    if is_float(dtype):
        return widen(tirx.abs)(x)
    return let(x, lambda v: select(v < like(0, v), neg(v), v)) if is_signed(dtype) else x


def divide(a: Scalar, b: Scalar) -> Scalar:
    """a / b; integers truncate as in C. Division by zero gives 0 and the lowest number over -1 wraps: neither traps."""
    if is_float(dtype_of(a)):
        return a / b
    return _guarded(a, b, tirx.truncdiv, neg)


def remainder(a: Scalar, b: Scalar, c_style: bool) -> Scalar:
    """The remainder with the sign of b (Python's %), or with the sign of a (C's, fmod). Integers over 0 give 0."""
    if is_float(dtype_of(a)):
        return widen(lambda x, y: _float_remainder(x, y, c_style))(a, b)
    rest = _guarded(a, b, tirx.truncmod, lambda x: like(0, x))
    if c_style or not is_signed(dtype_of(a)):
        return rest

    def signed(r: Scalar, y: Scalar) -> Scalar:
        wrong = select(r < like(0, r), y > like(0, y), tirx.all(r > like(0, r), y < like(0, y)))
        return select(wrong, r + y, r)

    return let(b, lambda y: let(rest, lambda r: signed(r, y)))


def _float_remainder(a: Scalar, b: Scalar, c_style: bool) -> Scalar:
    rest = tirx.Mod(a, b)  # LLVM's frem, C's fmod
    if c_style:
        return rest

    def signed(r: Scalar, y: Scalar) -> Scalar:
        wrong = select(r < like(0, r), y > like(0, y), tirx.all(r > like(0, r), y < like(0, y)))
        return select(wrong, r + y, r)

    return let(b, lambda y: let(rest, lambda r: signed(r, y)))


def _guarded(a: Scalar, b: Scalar, divide: Callable, at_minus_one: Callable[[Scalar], Scalar]) -> Scalar:
    """Integer division that no operand makes trap: the divisor is replaced where it would."""
    if isinstance(b, tirx.IntImm) and int(b.value) not in (0, -1):
        return divide(a, b)

    def safe(x: Scalar, y: Scalar) -> Scalar:
        bad = y == like(0, y)
        if is_signed(dtype_of(y)):
            bad = tirx.any(bad, y == like(-1, y))
        value = let(select(bad, like(1, y), y), lambda d: divide(x, d))
        special = select(y == like(0, y), like(0, x), at_minus_one(x)) if is_signed(dtype_of(y)) else like(0, x)
        return select(bad, special, value)

    return let(a, lambda x: let(b, lambda y: safe(x, y)))


# ---- conversions ------------------------------------------------------------------------------------------------------
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
