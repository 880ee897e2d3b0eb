"""Bytes of four vectors brought side by side, and 32-bit lanes narrowed to bytes again, as x86's unpack and pack do it,
and 64-bit Arm's zip and sqxtn.

Both work within 128 bits: unpacking 16 neighbouring channels of four rows gives four vectors ("groups"), each with four
channels of every 16 ([channel][row] bytes), and packing four groups gives the channels in their order again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from tvm import tirx

from .builder import Builder
from .dot import neon

GROUPS = 4
BLOCK = 16  # bytes of 128 bits
Vector: TypeAlias = tirx.Expr


def channels_of_groups(lanes: int) -> np.ndarray:
    """[4, lanes]: which of 4 * lanes channels each lane of each group holds."""
    lane = np.arange(lanes)
    return lane // GROUPS * BLOCK + np.arange(GROUPS)[:, None] * GROUPS + lane % GROUPS


def _unpack(b: Builder, low: Vector, high: Vector, size: int, count: int, half: int) -> Vector:
    """punpckl (half 0) or punpckh (half 1): of each 128 bits, that half's items of both, in turns."""
    each = BLOCK // size
    first = [block * each + half * (each // 2) + i for block in range(count // each) for i in range(each // 2)]
    indices = [at for i in first for at in (i, i + count)]
    return b.let(tirx.Shuffle([low, high], [tirx.const(i, "int32") for i in indices]))


def interleave(b: Builder, rows: Sequence[Vector], width: int) -> list[Vector]:
    """Four uint8 vectors of `width` channels -> the four groups, uint8 vectors, the rows side by side in each lane."""
    pairs = [[_unpack(b, rows[i], rows[i + 1], 1, width, half) for half in (0, 1)] for i in (0, 2)]
    words = [[tirx.reinterpret(f"uint16x{width // 2}", v) for v in pair] for pair in pairs]
    groups = [_unpack(b, words[0][g // 2], words[1][g // 2], 2, width // 2, g % 2) for g in range(GROUPS)]
    return [tirx.reinterpret(f"uint8x{width}", g) for g in groups]


def _family(width: int) -> tuple[str, str]:
    return {16: ("sse2", ".128"), 32: ("avx2", ""), 64: ("avx512", ".512")}[width]


def _both(halves: Sequence[Vector], lanes: int) -> Vector:
    return tirx.Shuffle(list(halves), [tirx.const(i, "int32") for i in range(lanes)])


def pack_words(low: Vector, high: Vector, width: int, zero: int, arm: bool = False) -> Vector:
    """Two neighbouring groups of int32 -> 16-bit words: value + zero, saturated."""
    if arm:
        words = _both([neon("int16x4", "sqxtn.v4i16", half) for half in (low, high)], 8)
    else:
        isa, bits = _family(width)
        words = tirx.call_llvm_pure_intrin(f"int16x{width // 2}", f"llvm.x86.{isa}.packssdw{bits}", low, high)
    if zero:
        added = tirx.Broadcast(tirx.const(zero, "int16"), width // 2)
        words = tirx.call_llvm_pure_intrin(f"int16x{width // 2}", "llvm.sadd.sat", words, added)
    return words


def pack_bytes(low: Vector, high: Vector, width: int, dtype: str, arm: bool = False) -> Vector:
    """The words of groups 0, 1 and of groups 2, 3 -> `width` bytes in order, clamped to the range of `dtype`."""
    if arm:
        name = "sqxtun.v8i8" if dtype == "uint8" else "sqxtn.v8i8"
        return tirx.reinterpret(f"{dtype}x16", _both([neon("int8x8", name, half) for half in (low, high)], 16))
    isa, bits = _family(width)
    name = f"llvm.x86.{isa}.{'packuswb' if dtype == 'uint8' else 'packsswb'}{bits}"
    return tirx.reinterpret(f"{dtype}x{width}", tirx.call_llvm_pure_intrin(f"int8x{width}", name, low, high))


def pack(groups: Sequence[Vector], width: int, zero: int, dtype: str) -> Vector:
    """Four groups of int32 -> `width` bytes in order: value + zero, clamped to the range of `dtype`."""
    low, high = (pack_words(groups[i], groups[i + 1], width, zero) for i in (0, 2))
    return pack_bytes(low, high, width, dtype)
