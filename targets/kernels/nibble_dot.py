"""How a target sums products of 4-bit codes (0 to 15) and signed bytes, in int32.

vpdpbusd   x86 VNNI: unsigned times signed bytes, four products and the sum in one instruction
pmaddubsw  AVX2 and AVX-512 without it: pairs in 16 bits, which cannot saturate: 2 * 15 * 128 = 3840, and eight of them
           fit, too, before they are widened
smlad      Cortex-M with DSP instructions: codes 0 and 2, 1 and 3 of a word by a mask each, two products at once
portable   plain arithmetic, for any target
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tvm import tirx

from targets.target import Target

from .dot import QUAD, WAYS
from .dot_dsp import DspDot
from .nibbles import splat

Vector: TypeAlias = tirx.Expr
MOST = 8  # quads of codes that one call may sum
Sum: TypeAlias = Callable[[Vector, Sequence[Vector], Sequence[tirx.Expr]], Vector]
_UBSW = {4: "ssse3.pmadd.ub.sw.128", 8: "avx2.pmadd.ub.sw", 16: "avx512.pmaddubs.w.512"}
_WD = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}


def halves(words: Vector, lanes: int) -> tuple[Vector, Vector]:
    """The low and the high four codes of each word, as bytes in an int8 vector."""
    mask = splat(0x0F0F0F0F, "uint32", lanes)
    high = tirx.shift_right(words, splat(4, "uint32", lanes))
    kind = f"int8x{QUAD * lanes}"
    return tirx.reinterpret(kind, words & mask), tirx.reinterpret(kind, high & mask)


def sum_of(target: Target, lanes: int) -> Sum:
    """add(acc, codes, words): acc + the products of each vector of codes with four signed bytes in an int32 word."""
    ways = {"vpdpbusd": _vpdpbusd, "pmaddwd": _pmaddubsw, "smlad": _smlad}
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
