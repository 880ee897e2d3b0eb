"""Activation functions: maps of one tensor, some with a slope or a threshold."""

from __future__ import annotations

from collections.abc import Callable

from targets.kernels.tensor import Scalar, Tensor, compute

from . import mathfn as fn
from .elementwise import binary, unary
from .registry import Node, op
from .scalar import let


def _floats(body: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """`body` on a value computed once, in float32 for the narrow types."""
    return fn.widen(lambda x: let(x, body))


def gelu(x: Scalar, tanh: bool) -> Scalar:
    """x * Phi(x): exact through erf, or the tanh approximation (Hendrycks and Gimpel, arXiv 1606.08415)."""
    if tanh:
        inner = (x + x * x * x * fn.like(0.044715, x)) * fn.like(0.7978845608028654, x)
        return fn.like(0.5, x) * x * (fn.like(1, x) + fn.tanh(inner))
    return fn.like(0.5, x) * x * (fn.like(1, x) + fn.erf(x * fn.like(0.7071067811865476, x)))


def softplus(x: Scalar) -> Scalar:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), which does not overflow."""
    return fn.relu(x) + log1p_unit(fn.exp(fn.neg(fn.absolute(x))))


def log1p_unit(t: Scalar) -> Scalar:
    """log(1 + t) for 0 <= t <= 1: 2 artanh(s) with s = t / (t + 2) <= 1/3, by its series. No conditions.

    The first term left out is below 2e-8 of the sum for float32, 1e-17 for float64.
    """
    terms = 17 if fn.dtype_of(t) == "float64" else 8

    def series(s: Scalar, square: Scalar) -> Scalar:
        total = fn.like(2.0 / (2 * terms - 1), s)
        for k in range(terms - 2, -1, -1):
            total = total * square + fn.like(2.0 / (2 * k + 1), s)
        return total * s

    return let(t, lambda t: let(t / (t + fn.like(2, t)), lambda s: let(s * s, lambda q: series(s, q))))


def elu(x: Scalar, alpha: float) -> Scalar:
    """x, or alpha (e^x - 1) below 0."""
    # expm1 keeps the digits near zero
    return fn.select(x < fn.like(0, x), fn.like(alpha, x) * fn.expm1(fn.minimum(x, fn.like(0, x))), x)


def hard_sigmoid(x: Scalar, alpha: float, beta: float) -> Scalar:
    """alpha x + beta held within [0, 1]."""
    v = x * fn.like(alpha, x) + fn.like(beta, x)
    return fn.maximum(fn.minimum(v, fn.like(1, x)), fn.like(0, x))


def _selu(node: Node) -> Callable[[Scalar], Scalar]:
    alpha, gamma = node.attr("alpha", 1.67326319217681884765625), node.attr("gamma", 1.05070102214813232421875)
    return lambda x: fn.like(gamma, x) * elu(x, alpha)


def _celu(node: Node) -> Callable[[Scalar], Scalar]:
    alpha = node.attr("alpha", 1.0)
    scaled = lambda x: fn.like(alpha, x) * fn.expm1(fn.minimum(x, fn.like(0, x)) / fn.like(alpha, x))  # noqa: E731
    return lambda x: fn.maximum(x, fn.like(0, x)) + scaled(x)


def _leaky(node: Node) -> Callable[[Scalar], Scalar]:
    alpha = node.attr("alpha", 0.01)
    return lambda x: fn.select(x < fn.like(0, x), fn.like(alpha, x) * x, x)


def _shrink(node: Node) -> Callable[[Scalar], Scalar]:
    """x + bias below -lambd, x - bias above lambd, else 0; integers stay integers."""
    bias, lambd = node.attr("bias", 0.0), node.attr("lambd", 0.5)

    def of(x: Scalar) -> Scalar:
        if not fn.is_float(fn.dtype_of(x)):
            return fn.convert(of(x.astype("float32")), fn.dtype_of(x))
        inside = fn.select(x > fn.like(lambd, x), x - fn.like(bias, x), fn.like(0, x))
        return let(inside, lambda i: fn.select(x < fn.like(-lambd, x), x + fn.like(bias, x), i))

    return of


_BODIES: dict[str, tuple[int, Callable[[Node], Callable[[Scalar], Scalar]]]] = {
    "Relu": (6, lambda n: fn.relu),
    "LeakyRelu": (6, _leaky),
    "Elu": (6, lambda n: lambda x: elu(x, n.attr("alpha", 1.0))),
    "Selu": (6, _selu),
    "Celu": (12, _celu),
    "Sigmoid": (6, lambda n: fn.sigmoid),
    "HardSigmoid": (6, lambda n: lambda x: hard_sigmoid(x, n.attr("alpha", 0.2), n.attr("beta", 0.5))),
    "HardSwish": (14, lambda n: lambda x: x * hard_sigmoid(x, 1.0 / 6.0, 0.5)),
    "Softplus": (1, lambda n: softplus),
    "Softsign": (1, lambda n: lambda x: x / (fn.like(1, x) + fn.absolute(x))),
    "Tanh": (6, lambda n: fn.tanh),
    "ThresholdedRelu": (10, lambda n: lambda x: fn.select(x > fn.like(n.attr("alpha", 1.0), x), x, fn.like(0, x))),
    "Gelu": (20, lambda n: lambda x: gelu(x, n.attr("approximate", "none") == "tanh")),
    "Swish": (24, lambda n: lambda x: x * fn.sigmoid(x * fn.like(n.attr("alpha", 1.0), x))),
    "Shrink": (9, _shrink),
}

for _name, (_since, _body) in _BODIES.items():
    op(_name, since=_since, kind="elementwise")(lambda node, body=_body: unary(node, _floats(body(node))))


@op("Mish", since=18, kind="elementwise")
def mish(node: Node) -> Tensor:
    """x tanh(softplus(x)), in steps that the kernel gives names: nested in one expression they take TVM minutes."""
    x = node.need(0)
    acc = "float32" if x.dtype in fn.NARROW else x.dtype
    soft = compute(x.shape, acc, lambda *i: _floats(softplus)(x(*i).astype(acc)), [x], "softplus")
    gate = compute(x.shape, acc, lambda *i: fn.tanh(soft(*i)), [soft], "tanh")
    return compute(x.shape, x.dtype, lambda *i: (x(*i).astype(acc) * gate(*i)).astype(x.dtype), [x, gate], "mish")


@op("PRelu", since=7, kind="elementwise")
def prelu(node: Node) -> Tensor:
    """The slope broadcasts to x (unidirectional)."""

    def of(x: Scalar, slope: Scalar) -> Scalar:
        return let(x, lambda v: fn.select(v < fn.like(0, v), fn.mul(v, slope), v))

    return binary(node, of)
