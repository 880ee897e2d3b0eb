"""Integer arithmetic that wraps on overflow and never traps."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.kernels.tensor import Scalar

from .scalar import bits_of, const, dtype_of, is_float, is_signed, let, like, select


def wrapping(fn: Callable[[Scalar, Scalar], Scalar], wide: Callable[[Scalar, Scalar], Scalar]) -> Callable:
    """`fn` (on integers whose result fits 64 bits) for every type, modulo 2^bits; `wide` is what it is on uint64.

    TVM tells LLVM that sums of 32 and 64 bits never overflow, signed or not. So those of 32 bits are taken in 64, which
    LLVM narrows again, and those of 64 bits from halves.
    """

    def call(a: Scalar, b: Scalar) -> Scalar:
        dtype = dtype_of(a)
        if is_float(dtype):
            return fn(a, b)
        bits = bits_of(dtype)
        if bits < 32:
            return fn(a, b)
        if bits == 32:
            long = "int64" if is_signed(dtype) else "uint64"
            # a difference of uint32 may fall below zero: two's complement does not mind which of the two carries it
            signed = long if fn is _multiply else "int64"
            return fn(a.astype(signed), b.astype(signed)).astype(dtype)
        return let(a.astype("uint64"), lambda x: let(b.astype("uint64"), lambda y: wide(x, y))).astype(dtype)

    return call


def _low(x: Scalar) -> Scalar:
    return x & const(0xFFFFFFFF, "uint64")


def _high(x: Scalar) -> Scalar:
    return tirx.shift_right(x, const(32, "uint64"))


def _join(high: Scalar, low: Scalar) -> Scalar:
    """high * 2^32 + low modulo 2^64; low may have a carry."""
    return let(low, lambda v: tirx.shift_left(_low(high + _high(v)), const(32, "uint64")) | _low(v))


def _add_wide(a: Scalar, b: Scalar, carry: int = 0) -> Scalar:
    return _join(_high(a) + _high(b), _low(a) + _low(b) + const(carry, "uint64"))


def _sub_wide(a: Scalar, b: Scalar) -> Scalar:
    return let(b ^ const(-1, "uint64"), lambda flipped: _add_wide(a, flipped, 1))


def _mul_wide(a: Scalar, b: Scalar) -> Scalar:
    return _join(_low(_high(a) * _low(b)) + _low(_low(a) * _high(b)), _low(a) * _low(b))


def _multiply(a: Scalar, b: Scalar) -> Scalar:
    return a * b


add = wrapping(lambda a, b: a + b, _add_wide)
sub = wrapping(lambda a, b: a - b, _sub_wide)
mul = wrapping(_multiply, _mul_wide)


def guarded(a: Scalar, b: Scalar, divide: Callable, at_minus_one: Callable[[Scalar], Scalar]) -> Scalar:
    """Integer division that no operand makes trap: `special` values where it would."""
    if isinstance(b, tirx.IntImm) and int(b.value) not in (0, -1):
        return divide(a, b)

    def safe(x: Scalar, y: Scalar) -> Scalar:
        bad = y == like(0, y)
        if is_signed(dtype_of(y)):
            bad = tirx.any(bad, y == like(-1, y))
        special = select(y == like(0, y), like(0, x), at_minus_one(x)) if is_signed(dtype_of(y)) else like(0, x)
        # a branch: under a select TVM takes the guard as known, drops it from the divisor and divides all the same
        return tirx.if_then_else(bad, special, divide(x, y))

    return let(a, lambda x: let(b, lambda y: safe(x, y)))


def int_power(a: Scalar, b: Scalar) -> Scalar:
    """a ** b by squaring, modulo 2^bits; a negative exponent truncates 1 / a^-b."""
    dtype = dtype_of(a)
    unsigned = "uint64"
    one = tirx.const(1, unsigned)
    base, left = a.astype("int64").astype(unsigned), b.astype("int64")
    result: Scalar = one

    def step(k: int, result: Scalar, square: Scalar, exponent: Scalar) -> Scalar:
        if k == 6:  # exponents of 64 and more: only 0, 1 and -1 stay exact; every other base wraps
            return result.astype(dtype)
        bit = (exponent >> tirx.const(k, "int64")) & tirx.const(1, "int64")
        grown = select(bit == tirx.const(1, "int64"), _mul_wide(result, square), result)
        return let(grown, lambda r: let(_mul_wide(square, square), lambda s: step(k + 1, r, s, exponent)))

    def whole(v: Scalar, e: Scalar) -> Scalar:
        # a negative exponent gives 1/base, which truncates to 0 unless the base is 1 or -1 (whose powers repeat with 2)
        minus_one = v == const(-1, unsigned)
        even = let(e & tirx.const(1, "int64"), lambda x: x)
        unit = select(
            minus_one, select(even == tirx.const(0, "int64"), const(1, dtype), const(-1, dtype)), const(1, dtype)
        )
        is_unit = tirx.any(v == one, minus_one)
        negative = select(e < tirx.const(0, "int64"), const(0, dtype), step(0, result, v, e))
        return select(is_unit, unit, negative)

    return let(base, lambda v: let(left, lambda e: whole(v, e)))
