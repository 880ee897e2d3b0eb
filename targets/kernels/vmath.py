"""exp, log, tanh, sigmoid and erf of float32 as arithmetic that vectorises (LLVM would call libm lane by lane).

Each function takes and gives one TIR expression, is good to about 2 ulp over all of float32 and keeps IEEE's edges
(NaN, infinities, signed zero, denormals). float16 and bfloat16 are computed in float32; other types go to TIR's own.
The polynomials are minimax fits (Lawson's iteration, each coefficient rounded to float32 before the next is fitted).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from .tensor import hoist, intrinsic, reassociates

NARROW = ("float16", "bfloat16")
LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.428606765330187e-06  # the high part has 16 bits: n * high is exact
ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
ROUND_BITS, ONE_BITS = 0x4B400000, 0x3F800000

EXP = (0.4999999403953552, 0.1666652113199234, 0.04166827350854874, 0.008368685841560364, 0.001382013550028205)
EXPM1 = (0.4999999701976776, 0.1666654646396637, 0.04166743531823158, 0.00836627185344696, 0.0013870695838704705)
LOG = (
    0.3333331346511841, -0.25000008940696716, 0.2000207155942917, -0.16667988896369934, 0.14220358431339264,
    -0.12406233698129654, 0.11883548647165298, -0.11670098453760147, 0.06749269366264343,
)  # fmt: skip
ERF_SMALL = (
    0.12837916612625122, -0.3761262893676758, 0.11283625662326813, -0.02685573697090149, 0.005192438140511513,
    -0.0008050384349189699, 8.000279194675386e-05,
)  # fmt: skip
ERF_LARGE = (
    0.0002073377399938181, 0.12762753665447235, 0.6372630596160889, 0.10386083275079727, -0.022192897275090218,
    0.003034708322957158, -0.0001950729638338089,
)  # fmt: skip

# the normal distribution's upper tail over 2.75 (1 + u), -1 <= u <= 1, fitted for the error of its product with that
TAIL = (
    0.0029797698371112347, -0.02500752918422222, 0.09455797076225281, -0.20683400332927704, 0.27190345525741577,
    -0.17681093513965607, -0.0516534298658371, 0.2163514792919159, -0.1613587886095047, -0.028763430193066597,
    0.12784931063652039, -0.05867280066013336, -0.03484243154525757, 0.03763657808303833, -0.0016192396869882941,
    -0.007899724878370762, 0.002183767966926098,
)  # fmt: skip
TAIL_END = 5.5


def exp(x: tirx.Expr) -> tirx.Expr:
    """e^x."""
    return _float32(x, tirx.exp, lambda v: _exp(_clamp(v, -104.0, 89.0), _scaled))


def exp_flush(x: tirx.Expr) -> tirx.Expr:
    """e^x for x <= 88; zero where the result would be denormal. Cheaper: softmax and attention subtract the maximum."""
    return _float32(x, tirx.exp, lambda v: _exp(_at_least(v, -88.0), lambda p, n: p * _power(n)))


def exp_portable(x: tirx.Expr) -> tirx.Expr:
    """e^x of float32 for -88 <= x <= 0, less is taken as that: every sum is fused, so that all machines agree."""

    def body(x: tirx.Expr, t: tirx.Expr) -> tirx.Expr:
        n = t - _f(ROUND)
        r = fma(n, _f(-LN2_LOW), fma(n, _f(-LN2_HIGH), x))

        def of(r: tirx.Expr) -> tirx.Expr:
            value = _f(EXP[-1])
            for c in reversed(EXP[:-1]):
                value = fma(value, r, _f(c))
            return fma(value, r * r, r) + _f(1.0)

        return let(r, of) * _power(tirx.reinterpret("int32", t) - _i(ROUND_BITS))

    return let(_at_least(x, -88.0), lambda x: let(fma(x, _f(LOG2E), _f(ROUND)), lambda t: body(x, t)))


def fma(a: tirx.Expr, b: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
    """a * b + c of float32, rounded once."""
    return intrinsic("float32", "fma", a, b, c)


def fence(x: tirx.Expr) -> tirx.Expr:
    """x, rounded to float32 before it goes on: LLVM may not fuse the product it is with a sum."""
    return intrinsic("float32", "arithmetic.fence", x)


def log(x: tirx.Expr) -> tirx.Expr:
    """The natural logarithm."""
    return _float32(x, tirx.log, _log)


def tanh(x: tirx.Expr) -> tirx.Expr:
    """The hyperbolic tangent."""
    return _float32(x, tirx.tanh, _tanh)


def sigmoid(x: tirx.Expr) -> tirx.Expr:
    """1 / (1 + e^-x)."""
    return _float32(x, tirx.sigmoid, _sigmoid)


def erf(x: tirx.Expr) -> tirx.Expr:
    """The error function."""
    return _float32(x, tirx.erf, _erf)


def gelu_for_bytes(x: tirx.Expr) -> tirx.Expr:
    """x times the normal distribution's integral up to x, in a third of the time that erf takes.

    Absolute errors are those of 0.5 x (1 + erf(x / sqrt 2)) in float32 (4e-7, 7e-8 in the mean), and 1e-7 remain where
    that is zero already: for results that are rounded to 8 bits at once.
    """
    return _float32(x, _exact_gelu, _gelu)


# ---- the float32 cores ---------------------------------------------------------------------------
def _exp(x: tirx.Expr, scaled: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> tirx.Expr:
    """e^x = 2^n e^r with |r| <= ln2/2 (Cody and Waite); `scaled(p, n)` gives p * 2^n."""

    def body(x: tirx.Expr, t: tirx.Expr) -> tirx.Expr:
        n = _rounded(t)
        r = let(x, lambda x: n * _f(-LN2_LOW) + (n * _f(-LN2_HIGH) + x))
        p = let(r, lambda r: (_poly(EXP, r) * (r * r) + r) + _f(1.0))
        return let(p, lambda p: let(_integer(t), lambda n: scaled(p, n)))

    return let(x, lambda x: let(_rounding(x * _f(LOG2E)), lambda t: body(x, t)))


def _rounding(x: tirx.Expr) -> tirx.Expr:
    """What `_rounded` and `_integer` give the nearest integer of: x + 1.5 * 2^23, in whose low bits it stands."""
    return intrinsic("float32", "rint", x) if reassociates() else x + _f(ROUND)


def _rounded(t: tirx.Expr) -> tirx.Expr:
    return t if reassociates() else t - _f(ROUND)


def _integer(t: tirx.Expr) -> tirx.Expr:
    return t.astype("int32") if reassociates() else tirx.reinterpret("int32", t) - _i(ROUND_BITS)


def _scaled(p: tirx.Expr, n: tirx.Expr) -> tirx.Expr:
    """p * 2^n in two steps: n reaches -150 and 128, one factor only -126 to 127."""
    half = n >> _i(1)
    return p * _power(half) * _power(n - half)


def _expm1(x: tirx.Expr) -> tirx.Expr:
    """e^x - 1 without cancellation, for -87 <= x <= 87."""

    def body(x: tirx.Expr, t: tirx.Expr) -> tirx.Expr:
        n = _rounded(t)
        r = n * _f(-LN2_LOW) + (n * _f(-LN2_HIGH) + x)
        q = let(r, lambda r: _poly(EXPM1, r) * (r * r) + r)
        return let(_power(_integer(t)), lambda s: s * q + (s - _f(1.0)))

    return let(x, lambda x: let(_rounding(x * _f(LOG2E)), lambda t: body(x, t)))


def _log(x: tirx.Expr) -> tirx.Expr:
    """log(2^k m) = k ln2 + log(m), m in [sqrt(1/2), sqrt(2))."""
    half = 0x3F3504F3  # the bits of sqrt(1/2)
    tiny = x < _f(1.1754944e-38)
    bits = tirx.reinterpret("int32", tirx.Select(tiny, x * _f(8388608.0), x))  # denormals made normal

    def finite(bits: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
        m = tirx.reinterpret("float32", bits - (k << _i(23)))
        exponent = k.astype("float32") - tirx.Select(tiny, _f(23.0), _f(0.0))
        return let(exponent, lambda e: let(m - _f(1.0), lambda f: _log_sum(f, e)))

    value = let(bits, lambda bits: let((bits - _i(half)) >> _i(23), lambda k: finite(bits, k)))
    special = tirx.Select(x > _f(0.0), x, tirx.Select(x == _f(0.0), _f(-float("inf")), _f(float("nan"))))
    return tirx.Select(tirx.And(x > _f(0.0), x < _f(float("inf"))), value, special)


def _log_sum(f: tirx.Expr, e: tirx.Expr) -> tirx.Expr:
    """log(1 + f) + e ln2, small terms first."""
    square = f * f
    small = let(square, lambda s: s * _f(-0.5) + (_poly(LOG, f) * (f * s) + e * _f(LN2_LOW)))
    return e * _f(LN2_HIGH) + (f + small)


def _tanh(x: tirx.Expr) -> tirx.Expr:
    """tanh|x| = -t / (t + 2) with t = e^(-2|x|) - 1."""
    t = _expm1(_at_least(_abs(x) * _f(-2.0), -40.0))
    return _copysign(let(t, lambda t: _f(0.0) - t / (t + _f(2.0))), x)


def _sigmoid(x: tirx.Expr) -> tirx.Expr:
    """z / (1 + z) or 1 / (1 + z) with z = e^-|x|: neither side overflows."""
    z = _exp(_clamp(_f(0.0) - _abs(x), -104.0, 89.0), _scaled)
    return let(z, lambda z: tirx.Select(x < _f(0.0), z, _f(1.0)) / (z + _f(1.0)))


def _erf(x: tirx.Expr) -> tirx.Expr:
    """x + x P(x^2) near zero; 1 - e^-Q(x) beyond, where e^-Q is erfc."""

    def large(a: tirx.Expr) -> tirx.Expr:
        exponent = let(_at_most(a, 3.95), lambda a: _f(0.0) - (_poly(ERF_LARGE, a) + a))
        return _f(1.0) - _exp(exponent, lambda p, n: p * _power(n))

    near = let(x * x, lambda s: x * _poly(ERF_SMALL, s) + x)
    return let(_abs(x), lambda a: tirx.Select(a < _f(0.9375), near, _copysign(large(a), x)))


def _gelu(x: tirx.Expr) -> tirx.Expr:
    """max(x, 0) - |x| Q(|x|): the tail's term is below 1.1e-7 from 5.5 on."""

    def body(a: tirx.Expr) -> tirx.Expr:
        tail = let(a * _f(2 / TAIL_END) - _f(1.0), lambda u: _poly(TAIL, u))
        return tirx.Select(x < _f(0.0), _f(0.0), x) - a * tail

    return let(_at_most(_abs(x), TAIL_END), body)


def _exact_gelu(x: tirx.Expr) -> tirx.Expr:
    half, one, root = (tirx.const(c, str(x.ty.dtype)) for c in (0.5, 1.0, 0.7071067811865476))
    return half * x * (one + erf(x * root))


# ---- pieces --------------------------------------------------------------------------------------
def let(value: tirx.Expr, body: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
    """`body(v)` with v bound to `value`: computed once however often it is used."""
    if isinstance(value, tirx.Var | tirx.FloatImm | tirx.IntImm):
        return body(value)
    var = tirx.Var("m", str(value.ty.dtype))
    return tirx.Let(var, value, body(var))


def _float32(x: tirx.Expr, other: Callable[[tirx.Expr], tirx.Expr], core: Callable) -> tirx.Expr:
    dtype = str(x.ty.dtype)
    if dtype in NARROW:
        return _float32(x.astype("float32"), other, core).astype(dtype)
    if dtype != "float32":
        return other(x)
    if not isinstance(x, tirx.Var | tirx.FloatImm):
        # TVM substitutes bound names back wherever it analyses, so nesting one of these functions in another by Let
        # takes exponential time: a local breaks the chain, and where there can be none libm does
        kept = hoist(x)
        if kept is None and "Let(" in str(x):
            return other(x)
        x = x if kept is None else kept
    return let(x, core)


def _f(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def _i(value: int) -> tirx.Expr:
    return tirx.const(value, "int32")


def _poly(coefficients: Sequence[float], x: tirx.Expr) -> tirx.Expr:
    """Horner's rule, lowest coefficient first."""
    value = _f(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + _f(c)
    return value


def _power(n: tirx.Expr) -> tirx.Expr:
    """2^n for -127 < n < 128 (0 for -127); bits of n above the low nine do not matter."""
    return tirx.reinterpret("float32", (n << _i(23)) + _i(ONE_BITS))


# comparisons are written so that a NaN passes through
def _at_least(x: tirx.Expr, low: float) -> tirx.Expr:
    return tirx.Select(x < _f(low), _f(low), x)


def _at_most(x: tirx.Expr, high: float) -> tirx.Expr:
    return tirx.Select(x > _f(high), _f(high), x)


def _clamp(x: tirx.Expr, low: float, high: float) -> tirx.Expr:
    return let(_at_least(x, low), lambda v: _at_most(v, high))


def _abs(x: tirx.Expr) -> tirx.Expr:
    return tirx.reinterpret("float32", tirx.reinterpret("int32", x) & _i(0x7FFFFFFF))


def _copysign(magnitude: tirx.Expr, sign: tirx.Expr) -> tirx.Expr:
    bits = tirx.reinterpret("int32", sign) & _i(-0x80000000)
    return tirx.reinterpret("float32", tirx.reinterpret("int32", magnitude) | bits)
