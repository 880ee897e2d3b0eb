"""The softmax of one query's scores, from int32 sums to 8-bit codes, in vectors and in place.

Exponentials are powers of two of scores times log2(e); the reciprocal of their sum and of the codes' step are one
factor. Four vectors of codes are packed to one of bytes by saturating instructions, which leaves the quads of keys in
another order (that of `slot`); the values are packed in the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tvm import tirx

from .byte_lanes import pack
from .dot import load_vector, store_vector
from .rounding import MAGIC
from .tensor import as_expr

if TYPE_CHECKING:
    from .attention_integer import _Attention

Vector: TypeAlias = tirx.Expr
VECTORS = 4
LOG2E = 1.4426950408889634
LOWEST = -1e38  # below every score, and log2(e) times as much is a number still
FLUSH = -120.0  # 2^x below this is as good as zero
# minimax fits, relative error 1e-7 (Lawson's iteration, each coefficient rounded before the next is fitted):
# 2^(x - 1/2) on [0, 1), for instructions that split a number at its floor
HALVED = (
    0.7071067094802856, 0.49013444781303406, 0.16980236768722534, 0.039514485746622086, 0.006304812151938677,
    0.0013508572010323405,
)  # fmt: skip
# 2^x on [-1/2, 1/2]
POWER = (1.0, 0.6931470036506653, 0.24022246897220612, 0.0555071122944355, 0.009671294130384922, 0.0013269407209008932)


def softmax_rows(a: _Attention, rows: list[tirx.Expr]) -> None:
    """codes[row] = round(softmax(scores[row]) / step).

    Some rows at a time: the latency of one's horizontal steps is another's time to work.
    """
    b, s, lanes = a.b, a.s, a.lanes
    groups = s.padded // a.group if isinstance(s.padded, int) else tirx.truncdiv(s.padded, as_expr(a.group, "int64"))
    count = range(len(rows))

    def whole(value: float, dtype: str = "float32") -> Vector:
        return tirx.Broadcast(tirx.const(value, dtype), lanes)

    def each(body: Callable[[int, tirx.Expr], None]) -> None:
        with b.serial(groups, "g") as g:
            start = b.let(as_expr(g, "int64") * a.group)
            for j in range(VECTORS):
                for r in count:
                    body(r, start + j * lanes)

    def held(value: float) -> tirx.Var:
        local = b.local((len(rows), lanes), "float32")
        for r in count:
            store_vector(b, local, whole(value), *_place(r))
        return local

    best, sums = held(LOWEST), held(0.0)
    taken: list[Vector] = []
    if a.k_rest:
        end = as_expr(s.padded, "int64")
        ones = [load_vector(s.scores, a.task, row, end, count=lanes) for row in rows]
        taken = [b.let(one * whole(-a.k_rest, "int32"), "taken") for one in ones]

    def score(r: int, at: tirx.Expr) -> None:
        total = load_vector(s.scores, a.task, rows[r], at, count=lanes)
        total = total + load_vector(s.offsets, a.task, at, count=lanes)
        total = total + taken[r] if taken else total
        value = total.astype(f"float32x{lanes}") * whole(a.scale)
        value = b.let(value + load_vector(s.bias, a.task, _int(r if a.by_row else 0), at, count=lanes), "score")
        store_vector(b, s.scores, tirx.reinterpret(f"int32x{lanes}", value), a.task, rows[r], at)
        store_vector(b, best, tirx.max(load_vector(best, *_place(r), count=lanes), value), *_place(r))

    each(score)
    top = _across(a, [load_vector(best, *_place(r), count=lanes) for r in count], tirx.max)
    shift = [b.let(t * whole(LOG2E) - whole(_nudge(a)), "shift") for t in top]

    def power(r: int, at: tirx.Expr) -> None:
        bits = load_vector(s.scores, a.task, rows[r], at, count=lanes)
        value = b.let(_exp2(a, tirx.reinterpret(f"float32x{lanes}", bits) * whole(LOG2E) - shift[r]), "e")
        store_vector(b, s.scores, tirx.reinterpret(f"int32x{lanes}", value), a.task, rows[r], at)
        store_vector(b, sums, load_vector(sums, *_place(r), count=lanes) + value, *_place(r))

    each(power)
    totals = _across(a, [load_vector(sums, *_place(r), count=lanes) for r in count], lambda x, y: x + y)
    factors = [whole(1.0 / a.step) / total for total in totals]
    if a.mask is not None:  # no key is seen
        pairs = zip(top, factors, strict=True)
        factors = [tirx.Select(t > whole(LOWEST), factor, whole(0.0)) for t, factor in pairs]
    factors = [b.let(factor, "factor") for factor in factors]

    with b.serial(groups, "g") as g:
        start = b.let(as_expr(g, "int64") * a.group)
        for r in count:
            _codes(a, rows[r], start, factors[r])


def _codes(a: _Attention, row: tirx.Expr, start: tirx.Expr, factor: Vector) -> None:
    """The exponentials of four vectors of keys as bytes."""
    b, s, lanes = a.b, a.s, a.lanes
    places = [start + j * lanes for j in range(VECTORS)]
    scaled = [
        tirx.reinterpret(f"float32x{lanes}", load_vector(s.scores, a.task, row, at, count=lanes)) * factor
        for at in places
    ]
    if a.natural:
        most, magic = (tirx.Broadcast(tirx.const(v, "float32"), lanes) for v in (float(a.levels), MAGIC))
        for at, value in zip(places, scaled, strict=True):
            narrow = tirx.reinterpret(f"int32x{lanes}", tirx.min(value, most) + magic).astype(f"uint8x{lanes}")
            store_vector(b, s.codes, narrow, a.task, row, at)
        return
    rounded = [b.let(tirx.call_llvm_pure_intrin(f"int32x{lanes}", "llvm.lrint", value)) for value in scaled]
    packed = pack(rounded, a.group, 0, "uint8")
    if a.levels < 255:
        packed = tirx.min(packed, tirx.Broadcast(tirx.const(a.levels, "uint8"), a.group))
    store_vector(b, s.codes, packed, a.task, row, start)


def _exp2(a: _Attention, t: Vector) -> Vector:
    """2^(t - `_nudge`) for t <= 1, zero or as good as that where the result would be denormal."""
    b, lanes = a.b, a.lanes

    def whole(value: float, dtype: str = "float32") -> Vector:
        return tirx.Broadcast(tirx.const(value, dtype), lanes)

    def polynomial(coefficients: tuple[float, ...], x: Vector) -> Vector:
        value = whole(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            value = value * x + whole(c)
        return b.let(value, "p")

    if _nudge(a):
        t = b.let(t, "t")
        return _scaled(polynomial(HALVED, b.let(_fraction(t), "rest")), t)
    t = b.let(tirx.max(t, whole(FLUSH)), "t")
    # the last bits are the nearest integer; as bits, or TVM's simplifier takes t - ((t + M) - M) for zero
    moved = b.let(tirx.reinterpret(f"int32x{lanes}", t + whole(MAGIC)), "moved")
    rest = b.let(t - (tirx.reinterpret(f"float32x{lanes}", moved) - whole(MAGIC)), "rest")
    value = polynomial(POWER, rest)
    exponent = tirx.shift_left(moved, whole(23, "int32"))
    return tirx.reinterpret(f"float32x{lanes}", tirx.reinterpret(f"int32x{lanes}", value) + exponent)


def _nudge(a: _Attention) -> float:
    """What is added to an exponent where AVX-512 splits it at its floor, for the fraction to be about a half."""
    return 0.5 if a.lanes == 16 and "avx512dq" in a.target.features else 0.0


def _avx512(name: str, *operands: Vector) -> Vector:
    """A masked instruction of AVX-512 on all 16 lanes, in the current rounding mode."""
    nothing, every = tirx.Broadcast(tirx.const(0.0, "float32"), 16), tirx.const(-1, "int16")
    rest = [nothing, every, tirx.const(4, "int32")]
    return tirx.call_llvm_pure_intrin("float32x16", f"llvm.x86.avx512.mask.{name}.ps.512", *operands, *rest)


def _fraction(t: Vector) -> Vector:
    """t - floor(t); 0 for an infinity."""
    return _avx512("reduce", t, tirx.const(9, "int32"))


def _scaled(value: Vector, t: Vector) -> Vector:
    """value * 2^floor(t)."""
    return _avx512("scalef", value, t)


def _across(a: _Attention, values: list[Vector], combine: Callable[[Vector, Vector], Vector]) -> list[Vector]:
    """For each vector all of its lanes combined, in every lane of the result."""
    b, lanes = a.b, a.lanes
    values, half = [b.let(value) for value in values], lanes // 2
    while half:
        order = [tirx.const(i ^ half, "int32") for i in range(lanes)]
        turned = [b.let(tirx.Shuffle([value], order)) for value in values]
        values = [b.let(combine(value, other)) for value, other in zip(values, turned, strict=True)]
        half //= 2
    return values


def _place(j: int) -> tuple[tirx.Expr, tirx.Expr]:
    return tirx.const(j, "int32"), tirx.const(0, "int32")


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
