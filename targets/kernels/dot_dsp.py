"""Sums of byte products with the DSP instructions of Cortex-M4, M7 and M33: two at once (Armv7-M ARM, A4.4).

SXTB16 widens bytes 0 and 2 of a word, and, its operand rotated for nothing, bytes 1 and 3; SMLAD adds two products of
halves. Both sides are widened the same way, so bytes need no other order. There are no vectors: `lanes` columns are as
many scalars.
"""

from __future__ import annotations

from tvm import tirx

from .dot import Dot, Vector


def dsp(name: str, *operands: tirx.Expr) -> tirx.Expr:
    """A DSP instruction of Armv7E-M on words."""
    return tirx.call_llvm_pure_intrin("int32", f"llvm.arm.{name}", *operands)


def _halves(word: tirx.Expr, signed: bool) -> tuple[tirx.Expr, tirx.Expr]:
    name = "sxtb16" if signed else "uxtb16"
    return dsp(name, word), dsp(name, turned(word))


def turned(word: tirx.Expr) -> tirx.Expr:
    """The word rotated right by a byte, which LLVM folds into the instruction that widens it."""
    bits = tirx.reinterpret("uint32", word)
    eight, rest = (tirx.const(n, "uint32") for n in (8, 24))
    return tirx.reinterpret("int32", tirx.shift_right(bits, eight) | tirx.shift_left(bits, rest))


def _lane(vector: Vector, lane: int) -> tirx.Expr:
    return tirx.Shuffle([vector], [tirx.const(lane, "int32")])


class DspDot(Dot):
    """Two halves for the left side, two for every column."""

    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        """The left side's bytes, two in a word."""
        return _halves(word, signed)

    def right(self, weights: Vector) -> tuple[Vector, ...]:
        """Every column's bytes, two in a word."""
        words = tirx.reinterpret(f"int32x{self.lanes}", weights)
        return tuple(half for lane in range(self.lanes) for half in _halves(_lane(words, lane), True))

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        """Two instructions a column."""
        sums = []
        for lane in range(self.lanes):
            value = _lane(acc, lane)
            for x, w in zip(left, right[2 * lane :], strict=False):
                value = dsp("smlad", x, w, value)
            sums.append(value)
        return tirx.Shuffle(sums, [tirx.const(i, "int32") for i in range(self.lanes)])
