"""Arithmetic with broadcasting: ONNX's Add to Mod, the variadic Max, Min, Mean, Sum, and Clip of every opset."""

from __future__ import annotations

from collections.abc import Callable

from targets.kernels.tensor import Index, Scalar, Tensor, compute

from . import mathfn as fn
from .elementwise import binary, broadcast_to, unary, variadic
from .registry import Node, Unsupported, op
from .scalar import let

_BINARY = {"Add": fn.add, "Sub": fn.sub, "Mul": fn.mul, "Div": fn.divide, "Pow": fn.power}
_UNARY = {
    "Neg": (6, fn.neg), "Abs": (6, fn.absolute), "Floor": (6, fn.floor), "Ceil": (6, fn.ceil),
    "Round": (11, fn.round_even),
    "Reciprocal": (6, lambda x: fn.like(1, x) / x), "Sqrt": (6, fn.sqrt), "Exp": (6, fn.exp), "Log": (6, fn.log),
    "Sin": (7, fn.sin), "Cos": (7, fn.cos), "Tan": (7, fn.tan), "Asin": (7, fn.asin), "Acos": (7, fn.acos),
    "Atan": (7, fn.atan), "Sinh": (9, fn.sinh), "Cosh": (9, fn.cosh), "Asinh": (9, fn.asinh), "Acosh": (9, fn.acosh),
    "Atanh": (9, fn.atanh), "Erf": (9, fn.erf),
}  # fmt: skip

for _name, _f in _BINARY.items():
    op(_name, since=7, kind="elementwise")(lambda node, f=_f: binary(node, f))
for _name, (_since, _g) in _UNARY.items():
    op(_name, since=_since, kind="elementwise")(lambda node, f=_g: unary(node, _of_type(node, f)))


def _of_type(node: Node, f: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """Rounding and erf are declared for integers too in some versions: rounding leaves those as they are."""
    x = node.need(0)
    if not fn.is_float(x.dtype) and node.op not in ("Neg", "Abs"):
        if node.op in ("Floor", "Ceil", "Round"):
            return lambda v: v
        raise Unsupported(f"{node.op} of {x.dtype}", f"{node.op} of float32")
    return f


@op("Sign", since=9, kind="elementwise")
def sign(node: Node) -> Tensor:
    """-1, 0 or 1; a NaN stays one."""

    def of(x: Scalar) -> Scalar:
        zero = fn.like(0, x)
        negative = fn.like(-1, x) if node.need(0).dtype[0] != "u" else zero
        # the last arm is x itself: zero, minus zero or NaN
        return let(x, lambda v: fn.select(v > zero, fn.like(1, v), fn.select(v < zero, negative, v)))

    return unary(node, of)


@op("Mod", since=10, kind="elementwise")
def mod(node: Node) -> Tensor:
    """fmod=0: the sign of the divisor, as Python's %; fmod=1: the sign of the dividend, as C's fmod."""
    return binary(node, lambda a, b: fn.remainder(a, b, bool(node.attr("fmod", 0))))


@op("Max", since=6, kind="elementwise")
def maximum(node: Node) -> Tensor:
    """The largest of any number of inputs; a NaN if one is."""
    return variadic(node, fn.maximum)


@op("Min", since=6, kind="elementwise")
def minimum(node: Node) -> Tensor:
    """The smallest of any number of inputs; a NaN if one is."""
    return variadic(node, fn.minimum)


@op("Sum", since=6, kind="elementwise")
def total(node: Node) -> Tensor:
    """The sum of any number of inputs."""
    return variadic(node, fn.add)


@op("Mean", since=6, kind="elementwise")
def mean(node: Node) -> Tensor:
    """The mean of any number of inputs."""
    summed, count = variadic(node, fn.add), len(node.inputs)
    return compute(summed.shape, summed.dtype, lambda *i: summed(*i) / fn.const(count, summed.dtype), [summed])


@op("Clip", since=6, kind="elementwise")
def clip_attributes(node: Node) -> Tensor:
    """Before opset 11 the bounds are attributes."""
    low, high = node.attr("min"), node.attr("max")

    def of(x: Scalar) -> Scalar:
        x = x if low is None else fn.maximum(x, fn.like(low, x))
        return x if high is None else fn.minimum(x, fn.like(high, x))

    return unary(node, of)


@op("Clip", since=11, kind="elementwise")
def clip(node: Node) -> Tensor:
    """The bounds are scalar inputs, either may be missing; where min > max the result is max."""
    x, low, high = node.need(0), node.input(1), node.input(2)
    least, most = (None if t is None else _scalar(node, k) for k, t in ((1, low), (2, high)))

    def of(*i: Index) -> Scalar:
        v = x(*i)
        v = v if least is None else fn.maximum(v, least())
        return v if most is None else fn.minimum(v, most())

    return compute(x.shape, x.dtype, of, [t for t in (x, low, high) if t is not None], "clip")


def _scalar(node: Node, index: int) -> Callable[[], Scalar]:
    """A reader of a one-element input: the number itself where it is known."""
    t, value = node.need(index), node.const(index)
    if value is not None and value.size == 1:
        return lambda: fn.const(value.reshape(-1)[0].item(), t.dtype)
    read = broadcast_to(t, t.shape)
    return lambda: read(*[0] * t.ndim)
