"""How a target sums products of unsigned codes of 4 to 8 bits and signed bytes, in int32: nibble_dot.py's ways.

Codes of 8 bits are too large to add up in 16 bits: without VNNI x86 takes their halves, others dot.py's portable way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from tvm import tirx

from targets.target import Target

from .dot import QUAD, WAYS, neon
from .nibble_dot import MOST, Sum, Vector, halves, smull, sum_of
from .nibbles import splat

# quads whose products, each at most 2 * (2^bits - 1) * 128, add up within 16 bits
_MOST = {4: 8, 5: 4, 6: 2}
Prepared = tuple[Vector, ...]


@dataclass(frozen=True)
class CodeDot:
    """add(acc, prepared codes, words) of up to `most` quads."""

    add: Callable[[Vector, Sequence[Prepared], Sequence[tirx.Expr]], Vector]
    most: int
    prepare: Callable[[Vector], Prepared] = lambda code: (code,)  # once for all rows
    bias: int = 0  # what codes are taken as too small by
    registers: int = 1  # that a prepared quad takes


def code_dot(target: Target, lanes: int, bits: int) -> CodeDot:
    """The target's way for codes of so many bits."""
    if bits < 8 or target.dot == "vpdpbusd":
        whole = sum_of(target, lanes)
        most = 8 if target.dot == "vpdpbusd" else _MOST[bits]
        return CodeDot(lambda acc, codes, words: whole(acc, [code for (code,) in codes], words), most)
    if target.dot == "pmaddwd":
        return _by_nibbles(sum_of(target, lanes), lanes)
    dot = WAYS[target.dot](lanes)
    flip = splat(0x80808080, "uint32", lanes)  # signed bytes on both sides

    def prepare(code: Vector) -> Prepared:
        signed = tirx.reinterpret(f"uint32x{lanes}", code) ^ flip
        return dot.right(tirx.reinterpret(f"int8x{QUAD * lanes}", signed))

    def add(acc: Vector, codes: Sequence[Prepared], words: Sequence[tirx.Expr]) -> Vector:
        for code, word in zip(codes, words, strict=True):
            acc = dot.add(acc, dot.left(word, signed=True), code)
        return acc

    if target.dot == "smull":
        return CodeDot(_by_pairs, MOST, prepare, 128)
    return CodeDot(add, 2, prepare, 128, dot.registers)


def _by_pairs(acc: Vector, codes: Sequence[Prepared], words: Sequence[tirx.Expr]) -> Vector:
    """Products of two quads fit 16 bits: rows are quantized to -127 to 127, and 2 * 128 * 127 = 32512."""
    held: list[list[Vector]] = [[], []]
    for start in range(0, len(codes), 2):
        pair = slice(start, start + 2)
        for half, sums in zip(held, smull([code for (code,) in codes[pair]], words[pair]), strict=True):
            half.append(neon("int32x4", "saddlp.v4i32.v8i16", sums))
    return acc + neon("int32x4", "addp.v4i32", *(reduce(lambda p, q: p + q, half) for half in held))


def _by_nibbles(whole: Sum, lanes: int) -> CodeDot:
    """Codes of 8 bits as 16 times their high halves plus their low ones, each of which add up in 16 bits."""

    def prepare(code: Vector) -> Prepared:
        return halves(tirx.reinterpret(f"uint32x{lanes}", code), lanes)

    def add(acc: Vector, codes: Sequence[Prepared], words: Sequence[tirx.Expr]) -> Vector:
        low = whole(acc, [low for low, _ in codes], words)
        high = whole(splat(0, "int32", lanes), [high for _, high in codes], words)
        return low + tirx.shift_left(high, splat(4, "int32", lanes))

    return CodeDot(add, 4, prepare, registers=2)
