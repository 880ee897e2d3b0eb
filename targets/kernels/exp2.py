"""2^x of vectors, for what is then rounded to bfloat16: a relative error of 3e-6, a thousandth of that rounding."""

from __future__ import annotations

from tvm import tirx

from .bf16 import LANES
from .builder import Builder
from .nibbles import splat
from .rounding import MAGIC

ONE_BITS = 0x3F800000
# the least relative error of a polynomial of degree 4 on [-1/2, 1/2], by least squares at Chebyshev's nodes
POWERS = (0.9999991908565833, 0.6931219676960603, 0.24024981109537277, 0.05591703917487026, 0.009560510206485693)


def exp2(b: Builder, x: tirx.Expr) -> tirx.Expr:
    """2^x of a float32 vector, x at most 126; 0 from -127 on down."""
    held = b.let(tirx.max(x, _v(-127.0)), "x")
    # its last bits are x rounded; as a fused step, for of a sum TVM would take the same number off again
    shifted = tirx.call_llvm_pure_intrin(f"float32x{LANES}", "llvm.fma", held, _v(1.0), _v(MAGIC))
    shifted = b.let(shifted, "shifted")
    rest = b.let(held - (shifted - _v(MAGIC)), "rest")
    value = _v(POWERS[-1])
    for c in reversed(POWERS[:-1]):
        value = value * rest + _v(c)
    bits = tirx.shift_left(tirx.reinterpret(f"int32x{LANES}", shifted), splat(23, "int32", LANES))
    power = tirx.reinterpret(f"float32x{LANES}", bits + splat(ONE_BITS, "int32", LANES))
    return b.let(value * power, "power")


def _v(value: float) -> tirx.Expr:
    return splat(value, "float32", LANES)
