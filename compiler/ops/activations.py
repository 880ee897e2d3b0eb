"""The activation functions that recurrent operators name in their attribute `activations`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from targets.kernels.tensor import Scalar

from . import mathfn
from .registry import Unsupported

Function = Callable[[Scalar], Scalar]


def _hard_sigmoid(x: Scalar, a: float, b: float) -> Scalar:
    y = mathfn.like(a, x) * x + mathfn.like(b, x)
    return mathfn.maximum(mathfn.minimum(y, mathfn.like(1, x)), mathfn.like(0, x))


def _softplus(x: Scalar) -> Scalar:
    # log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which does not overflow
    return mathfn.maximum(x, mathfn.like(0, x)) + mathfn.log1p(mathfn.exp(mathfn.like(0, x) - mathfn.absolute(x)))


def _elu(x: Scalar, a: float) -> Scalar:
    return mathfn.select(x < mathfn.like(0, x), mathfn.like(a, x) * (mathfn.exp(x) - mathfn.like(1, x)), x)


# name: (function of x, alpha, beta; default alpha, default beta), where None is a parameter it does not take
FUNCTIONS: dict[str, tuple[Callable[..., Scalar], float | None, float | None]] = {
    "relu": (lambda x, a, b: mathfn.relu(x), None, None),
    "tanh": (lambda x, a, b: mathfn.tanh(x), None, None),
    "sigmoid": (lambda x, a, b: mathfn.sigmoid(x), None, None),
    "affine": (lambda x, a, b: mathfn.like(a, x) * x + mathfn.like(b, x), 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: mathfn.select(x < mathfn.like(0, x), mathfn.like(a, x) * x, x), 0.01, None),
    "thresholdedrelu": (
        lambda x, a, b: mathfn.select(x > mathfn.like(a, x), x, mathfn.like(0, x)), 1.0, None
    ),
    "scaledtanh": (lambda x, a, b: mathfn.like(a, x) * mathfn.tanh(mathfn.like(b, x) * x), 1.0, 1.0),
    "hardsigmoid": (_hard_sigmoid, 0.2, 0.5),
    "elu": (lambda x, a, b: _elu(x, a), 1.0, None),
    "softsign": (lambda x, a, b: x / (mathfn.like(1, x) + mathfn.absolute(x)), None, None),
    "softplus": (lambda x, a, b: _softplus(x), None, None),
}  # fmt: skip


def functions(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clips: Sequence[float | None]
) -> list[Function]:
    """A function of x for each name. Those that take a parameter consume `alphas` and `betas` in order, then defaults.

    clips: for each the bound that x is brought into first, or None. Raises Unsupported for an unknown name.
    """
    left, right = list(alphas), list(betas)
    result: list[Function] = []
    for name, clip in zip(names, clips, strict=True):
        if name.lower() not in FUNCTIONS:
            raise Unsupported(f"activation {name}", ", ".join(FUNCTIONS))
        fn, alpha, beta = FUNCTIONS[name.lower()]
        a = alpha if alpha is None or not left else left.pop(0)
        b = beta if beta is None or not right else right.pop(0)
        result.append(_clipped(fn, a, b, clip))
    return result


def _clipped(fn: Callable[..., Scalar], a: float | None, b: float | None, clip: float | None) -> Function:
    if clip is None:
        return lambda x: fn(x, a, b)

    def bounded(x: Scalar) -> Scalar:
        return fn(mathfn.maximum(mathfn.minimum(x, mathfn.like(clip, x)), mathfn.like(-clip, x)), a, b)

    return bounded
