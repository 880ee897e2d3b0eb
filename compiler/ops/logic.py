"""Comparisons, logic and bits, and Where."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.kernels.tensor import Scalar, Tensor

from . import mathfn as fn
from .elementwise import binary, map_broadcast, unary
from .registry import Node, op
from .scalar import let


def _compare(a: Scalar, b: Scalar, fold: Callable[[Scalar, Scalar], Scalar]) -> Scalar:
    """Comparisons of narrow floats go through float32, of bools through uint8."""
    if fn.dtype_of(a) == "bool":
        return fold(a.astype("uint8"), b.astype("uint8"))
    return fold(fn.single(a), fn.single(b))


_COMPARE = {
    "Equal": (7, tirx.EQ),
    "Greater": (7, tirx.GT),
    "Less": (7, tirx.LT),
    "GreaterOrEqual": (12, tirx.GE),
    "LessOrEqual": (12, tirx.LE),
}
_LOGIC = {
    "And": tirx.all,
    "Or": tirx.any,
    "Xor": lambda a, b: tirx.NE(a.astype("uint8"), b.astype("uint8")),
}
_BITS = {
    "BitwiseAnd": lambda a, b: a & b,
    "BitwiseOr": lambda a, b: a | b,
    "BitwiseXor": lambda a, b: a ^ b,
}

for _name, (_since, _f) in _COMPARE.items():
    op(_name, since=_since, kind="elementwise")(lambda node, f=_f: binary(node, lambda a, b: _compare(a, b, f), "bool"))
for _name, _f in _LOGIC.items():
    op(_name, since=7, kind="elementwise")(lambda node, f=_f: binary(node, f, "bool"))
for _name, _f in _BITS.items():
    op(_name, since=18, kind="elementwise")(lambda node, f=_f: binary(node, f))


@op("Not", since=1, kind="elementwise")
def logical_not(node: Node) -> Tensor:
    """True where the input is false."""
    return unary(node, tirx.Not)


@op("BitwiseNot", since=18, kind="elementwise")
def bitwise_not(node: Node) -> Tensor:
    """Every bit flipped."""
    return unary(node, lambda x: x ^ fn.like(-1, x))


@op("BitShift", since=11, kind="elementwise")
def bit_shift(node: Node) -> Tensor:
    """Shifts by the width or more (or by a negative number) give 0, or the sign where a signed number goes right."""
    left = node.attr("direction") == "LEFT"

    def of(a: Scalar, b: Scalar) -> Scalar:
        dtype = fn.dtype_of(a)
        width = fn.bits_of(dtype)

        def shift(v: Scalar, n: Scalar) -> Scalar:  # LLVM leaves a shift by the width undefined
            inside = tirx.all(n >= fn.like(0, n), n < fn.like(width, n))
            last = 0 if left or not fn.is_signed(dtype) else width - 1
            kept = let(fn.select(inside, n, fn.like(last, n)).astype(dtype), lambda m: v << m if left else v >> m)
            return kept if last else fn.select(inside, kept, fn.like(0, v))

        return let(a, lambda v: let(b.astype("int64"), lambda n: shift(v, n)))

    return binary(node, of)


@op("IsNaN", since=9, kind="elementwise")
def is_nan(node: Node) -> Tensor:
    """Where the input is a NaN."""
    return unary(node, fn.is_nan, "bool")


@op("IsInf", since=10, kind="elementwise")
def is_inf(node: Node) -> Tensor:
    """Where the input is an infinity of a sign that the attributes ask for."""
    up, down = bool(node.attr("detect_positive", 1)), bool(node.attr("detect_negative", 1))
    return unary(node, lambda x: fn.is_inf(x, up, down), "bool")


@op("Where", since=9, kind="elementwise")
def where(node: Node) -> Tensor:
    """The second input where the condition holds, else the third."""
    inputs = [node.need(0), node.need(1), node.need(2)]
    return map_broadcast(inputs, inputs[1].dtype, fn.select, "where")
