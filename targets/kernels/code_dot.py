"""How a target sums products of unsigned codes of 4 to 8 bits and signed bytes, in int32: nibble_dot.py's ways, and for
codes too large to add up in 16 bits, dot.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from targets.target import Target

from .dot import QUAD, WAYS
from .nibble_dot import Sum, Vector, sum_of
from .nibbles import splat

# quads whose products, each at most 2 * (2^bits - 1) * 128, add up within 16 bits
_MOST = {4: 8, 5: 4, 6: 2}


@dataclass(frozen=True)
class CodeDot:
    """add(acc, codes, words) of up to `most` quads; `bias`: what it takes every code as too small by."""

    add: Sum
    most: int
    bias: int = 0


def code_dot(target: Target, lanes: int, bits: int) -> CodeDot:
    """The target's way for codes of so many bits."""
    if target.dot == "vpdpbusd":
        return CodeDot(sum_of(target, lanes), 8)
    if bits < 8:
        return CodeDot(sum_of(target, lanes), _MOST[bits])
    dot = WAYS[target.dot](lanes)
    flip = splat(0x80808080, "uint32", lanes)  # signed bytes on both sides

    def add(acc: Vector, codes: Sequence[Vector], words: Sequence[tirx.Expr]) -> Vector:
        for code, word in zip(codes, words, strict=True):
            signed = tirx.reinterpret(f"int8x{QUAD * lanes}", tirx.reinterpret(f"uint32x{lanes}", code) ^ flip)
            acc = dot.add(acc, dot.left(word, signed=True), dot.right(signed))
        return acc

    return CodeDot(add, 2, 128)
