"""log1p, expm1 and the inverse hyperbolic functions, which LLVM has no vector form of, from exp, log and sqrt."""

from __future__ import annotations

from tvm import tirx

from targets.kernels import vmath
from targets.kernels.tensor import Scalar

from .scalar import dtype_of, is_nan, let, like, select, widen

exp, log = widen(vmath.exp), widen(vmath.log)


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

    return let(x, lambda v: tirx.copysign(let(tirx.abs(v), body), v))


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
    """log((1 + |x|) / (1 - |x|)) / 2 with x's sign."""

    def body(a: Scalar) -> Scalar:
        return like(0.5, a) * log1p((a + a) / (like(1, a) - a))

    return let(x, lambda v: tirx.copysign(let(tirx.abs(v), body), v))
