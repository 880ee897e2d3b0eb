"""The types of scalar TIR expressions: constants, casts between the float types, NaN tests."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad

from targets.kernels import rows, vmath
from targets.kernels.rows import is_float
from targets.kernels.tensor import Scalar, hoist

NARROW = ("float16", "bfloat16")


def let(value: Scalar, body: Callable[[Scalar], Scalar]) -> Scalar:
    """`body(v)` with v bound to `value`, which is computed once however often v is used.

    By a statement of its own where that is safe: vmath does so with its arguments, which must not name a Let outside.
    """
    if isinstance(value, tirx.Var | tirx.FloatImm | tirx.IntImm):
        return body(value)
    kept = hoist(value)
    return vmath.let(value, body) if kept is None else body(kept)


def dtype_of(x: Scalar) -> str:
    """The name of x's type."""
    return str(x.ty.dtype)


def is_signed(dtype: str) -> bool:
    """Whether a type is a signed integer."""
    return dtype.startswith("int")


def bits_of(dtype: str) -> int:
    """The width of a number type; 8 for bool."""
    return 8 if dtype == "bool" else int("".join(c for c in dtype.split("_")[0] if c.isdigit()))


def accumulator(dtype: str) -> str:
    """The type in which sums and products over `dtype` are held."""
    return "float32" if dtype in NARROW else dtype


def const(value: float | bool, dtype: str) -> Scalar:
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


def like(value: float, x: Scalar) -> Scalar:
    """A constant of x's type."""
    return const(value, dtype_of(x))


def single(x: Scalar) -> Scalar:
    """A float16 or bfloat16 as the float32 of the same value; other types as they are.

    TVM's legalisation does not look into what is bound to a name, where a cast to bfloat16 would crash LLVM. So a
    bfloat16 just made from a float32 gives that back: exactly, rounding it by hand where need be.
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


def select(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
    """`yes` where the condition holds, else `no`; both are evaluated."""
    return tirx.Select(condition, yes, no)


def is_nan(x: Scalar) -> Scalar:
    """Whether x is a NaN (false for integers)."""
    if not is_float(dtype_of(x)):
        return const(False, "bool")
    return rows.is_nan(single(x))


def is_inf(x: Scalar, positive: bool = True, negative: bool = True) -> Scalar:
    """Whether x is an infinity of a wanted sign."""
    x = single(x)
    inf = float("inf")

    def test(v: Scalar) -> Scalar:
        up = v == like(inf, v) if positive else const(False, "bool")
        down = v == like(-inf, v) if negative else const(False, "bool")
        return tirx.any(up, down)

    return let(x, test)
