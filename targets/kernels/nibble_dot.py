"""How a target sums products of 4-bit codes (0 to 15) and signed bytes, in int32.

vpdpbusd   x86 VNNI: unsigned times signed bytes, four products and the sum in one instruction
pmaddubsw  AVX2 and AVX-512 without it: pairs in 16 bits, which cannot saturate: 2 * 15 * 128 = 3840, and eight of them
           fit, too, before they are widened
sdot       Arm's dotprod, which is for signed bytes: codes are as good as those. Words come out of vectors of four, from
           which the instruction takes one by itself
smull      64-bit Arm without it: each product in 16 bits, as with pmaddubsw, and pairs added up at last
smlad      Cortex-M with DSP instructions: codes 0 and 2, 1 and 3 of a word by a mask each, two products at once
portable   plain arithmetic, for any target
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeAlias

from tvm import tirx

from targets.target import Target

from .dot import QUAD, WAYS, neon
from .dot_dsp import DspDot
from .nibbles import splat

Vector: TypeAlias = tirx.Expr
MOST = 8  # quads of codes that one call may sum
Sum: TypeAlias = Callable[[Vector, Sequence[Vector], Sequence[tirx.Expr]], Vector]
_UBSW = {4: "ssse3.pmadd.ub.sw.128", 8: "avx2.pmadd.ub.sw", 16: "avx512.pmaddubs.w.512"}
_WD = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}


def halves(words: Vector, lanes: int) -> tuple[Vector, Vector]:
    """The low and the high four codes of each word, as bytes in an int8 vector."""
    kind, codes = f"int8x{QUAD * lanes}", tirx.reinterpret(f"uint8x{QUAD * lanes}", words)
    low, high = codes & splat(0x0F, "uint8", QUAD * lanes), tirx.shift_right(codes, splat(4, "uint8", QUAD * lanes))
    return tirx.reinterpret(kind, low), tirx.reinterpret(kind, high)


def sum_of(target: Target, lanes: int) -> Sum:
    """add(acc, codes, words): acc + the products of each vector of codes with four signed bytes in an int32 word."""
    ways = {"vpdpbusd": _vpdpbusd, "pmaddwd": _pmaddubsw, "sdot": _sdot, "usdot": _sdot, "smull": _smull,
            "smlad": _smlad}  # fmt: skip
    return ways.get(target.dot, _portable)(lanes)


def _spread(word: tirx.Expr, lanes: int) -> Vector:
    return tirx.reinterpret(f"int8x{QUAD * lanes}", tirx.Broadcast(word, lanes))


def _vpdpbusd(lanes: int) -> Sum:
    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        for code, word in zip(codes, words, strict=True):
            acc = tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, acc, code, _spread(word, lanes))
        return acc

    return add


def _pmaddubsw(lanes: int) -> Sum:
    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        assert len(codes) <= MOST, "sums would leave 16 bits"
        pairs: Vector | None = None
        for code, word in zip(codes, words, strict=True):
            name, kind = f"llvm.x86.{_UBSW[lanes]}", f"int16x{2 * lanes}"
            part = tirx.call_llvm_pure_intrin(kind, name, code, _spread(word, lanes))
            pairs = part if pairs is None else pairs + part
        assert pairs is not None
        ones = splat(1, "int16", 2 * lanes)
        return acc + tirx.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.x86.{_WD[lanes]}", pairs, ones)

    return add


def _sdot(lanes: int) -> Sum:
    dot = WAYS["sdot"](lanes)

    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        for code, word in zip(codes, words, strict=True):
            acc = dot.add(acc, dot.left(word, signed=True), (code,))
        return acc

    return add


def smull(codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> tuple[Vector, Vector]:
    """On 64-bit Arm, sums in int16x8 of products of signed bytes: of the columns 0 and 1, four each, and of 2 and 3."""

    def half(vector: Vector, which: int) -> Vector:
        return tirx.Shuffle([vector], [tirx.const(8 * which + i, "int32") for i in range(8)])

    def products(which: int) -> Vector:
        return reduce(lambda p, q: p + q, [
            neon("int16x8", "smull.v8i16", half(code, which), half(_spread(word, 4), which))
            for code, word in zip(codes, words, strict=True)
        ])  # fmt: skip

    return products(0), products(1)


def _smull(lanes: int) -> Sum:
    assert lanes == 4, "a register of 128 bits"

    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        assert len(codes) <= MOST, "sums would leave 16 bits"
        both = neon("int16x8", "addp.v8i16", *smull(codes, words))
        return acc + neon("int32x4", "saddlp.v4i32.v8i16", both)

    return add


def _smlad(lanes: int) -> Sum:
    dot, mask, eight = DspDot(lanes, signed_left=True, registers=2 * lanes), *(_word(n) for n in (0x000F000F, 8))

    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        for code, word in zip(codes, words, strict=True):
            bits = tirx.reinterpret(f"uint32x{lanes}", code)
            each = [tirx.Shuffle([bits], [tirx.const(lane, "int32")]) for lane in range(lanes)]
            right = [half & mask for one in each for half in (one, tirx.shift_right(one, eight))]
            acc = dot.add(acc, dot.left(word, signed=True), tuple(tirx.reinterpret("int32", v) for v in right))
        return acc

    return add


def _word(value: int) -> tirx.Expr:
    return tirx.const(value, "uint32")


def _portable(lanes: int) -> Sum:
    dot = WAYS["portable"](lanes)

    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        for code, word in zip(codes, words, strict=True):
            acc = dot.add(acc, dot.left(word, signed=True), dot.right(code))
        return acc

    return add
