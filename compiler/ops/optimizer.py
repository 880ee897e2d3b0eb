"""Steps of gradient descent (ai.onnx.preview.training): Adagrad, Adam, Momentum."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.kernels.tensor import Scalar, Tensor, compute

from . import mathfn
from .numbers import need_float, only
from .registry import Node, Unsupported, op

TRAINING = "ai.onnx.preview.training"
Step = Callable[[list[Scalar]], list[Scalar]]  # one element's X, G and states -> new X and states


def _each(node: Node, states: int, step: Step) -> list[Tensor | None]:
    """Inputs R, T, then all X, all G, all of each state; outputs all new X, then all of each new state."""
    given = len(node.inputs) - 2
    count, rest = divmod(given, 2 + states)
    if rest or count < 1:
        raise Unsupported(f"{given} tensors for {2 + states} of each kind")
    columns = [[node.need(2 + kind * count + i) for kind in range(2 + states)] for i in range(count)]
    rate, turn = node.need(0), node.need(1)
    results: list[Tensor | None] = []
    for kind in range(1 + states):
        for tensors in columns:
            x = tensors[0]
            need_float(x.dtype, node.op)
            if x.dtype not in ("float32", "float64"):
                raise Unsupported(f"{node.op} on {x.dtype}", "float32")
            results.append(
                compute(x.shape, x.dtype, _element(tensors, step, kind), [*tensors, rate, turn], node.op.lower())
            )
    return results


def _element(tensors: list[Tensor], step: Step, kind: int) -> Callable[..., Scalar]:
    return lambda *i: step([t(*i) for t in tensors])[kind]


@op("Momentum", domain=TRAINING)
def momentum(node: Node) -> list[Tensor | None]:
    """V' = alpha V + beta G, with weight decay in G; mode nesterov looks one step ahead. The first step has beta 1."""
    alpha, beta, decay = (float(node.attr(n)) for n in ("alpha", "beta", "norm_coefficient"))
    nesterov = {"standard": False, "nesterov": True}.get(node.attr("mode"))
    if nesterov is None:
        raise Unsupported(f"mode {node.attr('mode')}", "standard or nesterov")

    def step(v: list[Scalar]) -> list[Scalar]:
        x, g, speed = v
        rate, turn = only(node.need(0)).astype(mathfn.dtype_of(x)), only(node.need(1))
        g = mathfn.like(decay, x) * x + g
        factor = tirx.Select(turn > mathfn.like(0, turn), mathfn.like(beta, x), mathfn.like(1, x))
        new = mathfn.like(alpha, x) * speed + factor * g
        move = g + mathfn.like(alpha, x) * new if nesterov else new
        return [x - rate * move, new]

    return _each(node, 1, step)


@op("Adagrad", domain=TRAINING)
def adagrad(node: Node) -> list[Tensor | None]:
    """H' = H + G^2; X' = X - r G / (sqrt(H') + epsilon), the rate r falling with decay_factor (Duchi et al. 2011)."""
    epsilon, decay, norm = (float(node.attr(n, d)) for n, d in
                            (("epsilon", 1e-6), ("decay_factor", 0.0), ("norm_coefficient", 0.0)))  # fmt: skip

    def step(v: list[Scalar]) -> list[Scalar]:
        x, g, square = v
        turn = only(node.need(1)).astype(mathfn.dtype_of(x))
        rate = only(node.need(0)).astype(mathfn.dtype_of(x)) / (mathfn.like(1, x) + turn * mathfn.like(decay, x))
        g = mathfn.like(norm, x) * x + g
        new = square + g * g
        return [x - rate * g / (tirx.sqrt(new) + mathfn.like(epsilon, x)), new]

    return _each(node, 1, step)


@op("Adam", domain=TRAINING)
def adam(node: Node) -> list[Tensor | None]:
    """First and second moments of the gradient, corrected for their start from step 1 on (Kingma and Ba 2015)."""
    names = (
        ("alpha", 0.9),
        ("beta", 0.999),
        ("epsilon", 1e-6),
        ("norm_coefficient", 0.0),
        ("norm_coefficient_post", 0.0),
    )
    alpha, beta, epsilon, norm, post = (float(node.attr(n, d)) for n, d in names)

    def step(v: list[Scalar]) -> list[Scalar]:
        x, g, first, second = v
        one = mathfn.like(1, x)
        a, b = mathfn.like(alpha, x), mathfn.like(beta, x)
        turn = only(node.need(1)).astype(mathfn.dtype_of(x))
        rate = only(node.need(0)).astype(mathfn.dtype_of(x))
        corrected = rate * tirx.sqrt(one - mathfn.power(b, turn)) / (one - mathfn.power(a, turn))
        rate = tirx.if_then_else(turn > mathfn.like(0, x), corrected, rate)
        g = mathfn.like(norm, x) * x + g
        new_first, new_second = a * first + (one - a) * g, b * second + (one - b) * (g * g)
        moved = x - rate * new_first / (tirx.sqrt(new_second) + mathfn.like(epsilon, x))
        return [(one - mathfn.like(post, x)) * moved, new_first, new_second]

    return _each(node, 2, step)
