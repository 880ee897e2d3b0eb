"""Codes of 4 and 8 bits in the order kernels read them, and vectors of them as floats.

Of 4 bits: [panels][ceil(depth/8)][lanes] uint32, the eight neighbours along the depth of one column in one word. Byte i
has number i in its low half and number i + 4 in the other, so that the low halves of all bytes are four neighbours,
and the high halves too: kernels of integers take them so. Of 8 bits: [panels][depth][lanes].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import load_vector
from .packing import pack_panels
from .tensor import Index

WORD = 8  # numbers of 4 bits in a word
Vector: TypeAlias = tirx.Expr


def pack_nibbles(codes: np.ndarray, lanes: int) -> np.ndarray:
    """[depth, cols] of integers (their lowest 4 bits count) -> [panels, ceil(depth/8), lanes] uint32."""
    depth, cols = codes.shape
    words = -(-depth // WORD)
    full = np.zeros((words * WORD, cols), np.uint8)
    full[:depth] = codes.astype(np.int8).view(np.uint8) & 15
    halves = full.reshape(words, 2, 4, cols)
    shifts = (8 * np.arange(4, dtype=np.uint32))[:, None]
    packed = np.bitwise_or.reduce((halves[:, 0] | halves[:, 1] << 4).astype(np.uint32) << shifts, axis=1)
    return pack_panels(packed, lanes)


def shift_of(i: int) -> int:
    """Where in a word the bits of number `i` of eight lie."""
    return 8 * (i % 4) + 4 * (i // 4)


def is_x86(target: Target) -> bool:
    """Whether the vector instructions of AVX2 or AVX-512 are there to be asked for by name."""
    return target.triple.startswith("x86_64") and target.dot != "portable"


class Codes:
    """Reads codes as vectors of floats, eight steps of the depth at a time."""

    def __init__(self, b: Builder, buffer: tirx.Var, bits: int, signed: bool, lanes: int) -> None:
        self.b, self.buffer, self.bits, self.signed, self.lanes = b, buffer, bits, signed, lanes

    def load(self, panel: Index, word: Index) -> Vector | None:
        """What eight steps share: loaded once."""
        if self.bits == 8:
            return None
        return self.b.let(load_vector(self.buffer, panel, word, _zero(), count=self.lanes))

    def value(self, loaded: Vector | None, panel: Index, word: Index, i: int, j: int) -> Vector:
        """Number `i` of the eight, as float32; `j`: which of the panels at work it is."""
        kind = f"float32x{self.lanes}"
        if loaded is None:
            at = word * WORD + i
            return load_vector(self.buffer, panel, at, _zero(), count=self.lanes).astype(kind)
        shift = shift_of(i)
        if self.signed:
            bits = tirx.reinterpret(f"int32x{self.lanes}", loaded)
            return _right(_left(bits, 28 - shift, self.lanes), 28, self.lanes).astype(kind)
        bits = _right(loaded, shift, self.lanes) & splat(15, "uint32", self.lanes)
        return tirx.reinterpret(f"int32x{self.lanes}", bits).astype(kind)


class Lookup(Codes):
    """Codes of 4 bits that stand for the 16 floats of a table; `begin` loads the table of each panel at work."""

    def __init__(self, b: Builder, buffer: tirx.Var, table: tirx.Var, lanes: int, target: Target) -> None:
        super().__init__(b, buffer, 4, False, lanes)
        self.table, self.way = table, looks_up(target, lanes)
        self.rows: list[Index] = []
        self.held: list[list[Vector]] = []

    def begin(self, rows: Sequence[Index]) -> None:
        """Loads those rows of the tables, one for each panel at work (or one for all) from here on."""
        count = {"permute": 16, "two permutes": 8}.get(self.way, 0)
        places = range(0, 16, count) if count else ()
        self.rows = list(rows)
        self.held = [[self.b.let(load_vector(self.table, row, _int(at), count=count)) for at in places] for row in rows]

    def value(self, loaded: Vector | None, panel: Index, word: Index, i: int, j: int) -> Vector:
        """Number `i` of the eight, from the table."""
        j = j if len(self.rows) > 1 else 0
        assert loaded is not None
        lanes, shift = self.lanes, shift_of(i)
        kind = f"float32x{lanes}"
        if self.way == "permute":  # takes the lowest 4 bits of each lane
            index = tirx.reinterpret(f"int32x{lanes}", _right(loaded, shift, lanes))
            return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx512.permvar.sf.512", self.held[j][0], index)
        if self.way == "two permutes":  # the lowest 3 bits, then the fourth tells which
            index = tirx.reinterpret(f"int32x{lanes}", _right(loaded, shift, lanes))
            low, high = (tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx2.permps", part, index) for part in self.held[j])
            upper = tirx.reinterpret(kind, _left(loaded, 28 - shift, lanes))
            return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx.blendv.ps.256", low, high, upper)
        index = _right(loaded, shift, lanes) & splat(15, "uint32", lanes)
        return tirx.BufferLoad(self.table, [self.rows[j], tirx.reinterpret(f"int32x{lanes}", index)])


def looks_up(target: Target, lanes: int) -> str:
    """How a table of 16 floats is read."""
    if is_x86(target) and lanes == 16 and "avx512f" in target.features:
        return "permute"
    if is_x86(target) and lanes == 8 and "avx2" in target.features:
        return "two permutes"
    return "gather"


def splat(value: float, dtype: str, lanes: int) -> Vector:
    """A constant in every lane."""
    return tirx.Broadcast(tirx.const(value, dtype), lanes)


def _right(vector: Vector, by: int, lanes: int) -> Vector:
    dtype = str(vector.ty.dtype).partition("x")[0]
    return tirx.shift_right(vector, splat(by, dtype, lanes)) if by else vector


def _left(vector: Vector, by: int, lanes: int) -> Vector:
    dtype = str(vector.ty.dtype).partition("x")[0]
    return tirx.shift_left(vector, splat(by, dtype, lanes)) if by else vector


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")


def _zero() -> tirx.Expr:
    return _int(0)
