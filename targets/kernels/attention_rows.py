"""The softmax of one query's scores, from int32 sums to 8-bit codes, in vectors and in place.

Exponentials are powers of two of scores times log2(e); the reciprocal of their sum and of the codes' step are one
factor. Four vectors of codes are packed to one of bytes by saturating instructions, which leaves the quads of keys in
another order (that of `slot`); the values are packed in the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import tirx

from .byte_lanes import pack
from .dot import load_vector, store_vector
from .rounding import MAGIC
from .tensor import as_expr

if TYPE_CHECKING:
    from .attention_integer import _Attention

Vector = tirx.Expr
VECTORS = 4
LOG2E = 1.4426950408889634
LOWEST = -1e38  # below every score, and log2(e) times as much is a number still
FLUSH = -120.0  # 2^x below this is as good as zero
# 2^x on [-1/2, 1/2], relative error 1e-7 (Lawson's iteration, each coefficient rounded before the next is fitted)
POWER = (1.0, 0.6931470036506653, 0.24022246897220612, 0.0555071122944355, 0.009671294130384922, 0.0013269407209008932)


def softmax_row(a: _Attention, row: tirx.Expr) -> None:
    """codes[row] = round(softmax(scores[row]) / step)."""
    b, s, lanes = a.b, a.s, a.lanes
    groups = s.padded // a.group if isinstance(s.padded, int) else tirx.truncdiv(s.padded, as_expr(a.group, "int64"))

    def whole(value: float, dtype: str = "float32") -> Vector:
        return tirx.Broadcast(tirx.const(value, dtype), lanes)

    def each(body: Callable[[int, tirx.Expr], None]) -> None:
        with b.serial(groups, "g") as g:
            start = b.let(as_expr(g, "int64") * a.group)
            for j in range(VECTORS):
                body(j, start + j * lanes)

    def held(value: float) -> tirx.Var:
        local = b.local((VECTORS, lanes), "float32")
        for j in range(VECTORS):
            store_vector(b, local, whole(value), *_place(j))
        return local

    best = held(LOWEST)
    taken = None
    if a.k_rest:
        ones = load_vector(s.scores, a.task, row, as_expr(s.padded, "int64"), count=lanes)
        taken = b.let(ones * whole(-a.k_rest, "int32"), "taken")

    def score(j: int, at: tirx.Expr) -> None:
        total = load_vector(s.scores, a.task, row, at, count=lanes)
        total = total + load_vector(s.offsets, a.task, at, count=lanes)
        total = total if taken is None else total + taken
        value = total.astype(f"float32x{lanes}") * whole(a.scale)
        value = b.let(value + load_vector(s.bias, a.task, at, count=lanes), "score")
        store_vector(b, s.scores, tirx.reinterpret(f"int32x{lanes}", value), a.task, row, at)
        store_vector(b, best, tirx.max(load_vector(best, *_place(j), count=lanes), value), *_place(j))

    each(score)
    top = _across(a, [load_vector(best, *_place(j), count=lanes) for j in range(VECTORS)], tirx.max)
    shift = b.let(top * whole(LOG2E), "shift")
    sums = held(0.0)

    def power(j: int, at: tirx.Expr) -> None:
        bits = load_vector(s.scores, a.task, row, at, count=lanes)
        value = b.let(_exp2(a, tirx.reinterpret(f"float32x{lanes}", bits) * whole(LOG2E) - shift), "e")
        store_vector(b, s.scores, tirx.reinterpret(f"int32x{lanes}", value), a.task, row, at)
        store_vector(b, sums, load_vector(sums, *_place(j), count=lanes) + value, *_place(j))

    each(power)
    total = _across(a, [load_vector(sums, *_place(j), count=lanes) for j in range(VECTORS)], lambda x, y: x + y)
    factor = whole(1.0 / a.step) / total
    if a.mask is not None:  # no key is seen
        factor = tirx.Select(top > whole(LOWEST), factor, whole(0.0))
    factor = b.let(factor, "factor")

    def scaled(at: tirx.Expr) -> Vector:
        bits = load_vector(s.scores, a.task, row, at, count=lanes)
        return tirx.reinterpret(f"float32x{lanes}", bits) * factor

    with b.serial(groups, "g") as g:
        start = b.let(as_expr(g, "int64") * a.group)
        places = [start + j * lanes for j in range(VECTORS)]
        if a.natural:
            for at in places:
                held_in = tirx.min(scaled(at), whole(float(a.levels))) + whole(MAGIC)
                narrow = tirx.reinterpret(f"int32x{lanes}", held_in).astype(f"uint8x{lanes}")
                store_vector(b, s.codes, narrow, a.task, row, at)
            return
        rounded = [b.let(tirx.call_llvm_pure_intrin(f"int32x{lanes}", "llvm.lrint", scaled(at))) for at in places]
        packed = pack(rounded, a.group, 0, "uint8")
        if a.levels < 255:
            packed = tirx.min(packed, tirx.Broadcast(tirx.const(a.levels, "uint8"), a.group))
        store_vector(b, s.codes, packed, a.task, row, start)


def _exp2(a: _Attention, t: Vector) -> Vector:
    b, lanes = a.b, a.lanes

    def whole(value: float, dtype: str = "float32") -> Vector:
        return tirx.Broadcast(tirx.const(value, dtype), lanes)

    t = b.let(tirx.max(t, whole(FLUSH)), "t")
    # the last bits are the nearest integer; as bits, or TVM's simplifier takes t - ((t + M) - M) for zero
    moved = b.let(tirx.reinterpret(f"int32x{lanes}", t + whole(MAGIC)), "moved")
    rest = b.let(t - (tirx.reinterpret(f"float32x{lanes}", moved) - whole(MAGIC)), "rest")
    value = whole(POWER[-1])
    for c in reversed(POWER[:-1]):
        value = value * rest + whole(c)
    exponent = tirx.shift_left(moved, whole(23, "int32"))
    return tirx.reinterpret(f"float32x{lanes}", tirx.reinterpret(f"int32x{lanes}", b.let(value, "p")) + exponent)


def _across(a: _Attention, parts: list[Vector], combine: Callable[[Vector, Vector], Vector]) -> Vector:
    """All lanes of all vectors combined, in every lane of the result."""
    b, lanes = a.b, a.lanes
    value = b.let(combine(combine(parts[0], parts[1]), combine(parts[2], parts[3])))
    half = lanes // 2
    while half:
        turned = tirx.Shuffle([value], [tirx.const(i ^ half, "int32") for i in range(lanes)])
        value = b.let(combine(value, b.let(turned)))
        half //= 2
    return value


def _place(j: int) -> tuple[tirx.Expr, tirx.Expr]:
    return tirx.const(j, "int32"), tirx.const(0, "int32")
