"""How a target sums products of bytes: four neighbouring elements of the reduction, a quad, in every 32-bit lane.

All ways read the same packed weights, [panels][quads][columns][4] int8, so packing does not depend on the target. The
left side is uint8 (int8 only where a way says so); sums are exact in int32, for each way:

vpdpbusd  x86 VNNI: unsigned times signed bytes, four products and the sum in one instruction
pmaddwd   AVX2 and AVX-512 without VNNI: even and odd bytes widened to 16 bits; vpmaddubsw would saturate
smlad     Cortex-M with DSP instructions: two products at once, without vectors (dot_dsp.py)
sdot      Arm's dotprod: signed bytes on both sides. Unsigned ones are taken 128 smaller, and 128 times the weights
          added, which is one more instruction
usdot     Arm's i8mm: unsigned times signed bytes, and sdot for signed ones
smull     64-bit Arm without either: products in 16 bits, added up in pairs; unsigned bytes as with sdot
portable  plain arithmetic, for any target
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx

from targets.target import Target

from .builder import Builder

QUAD = 4  # bytes of the reduction in one lane
Vector: TypeAlias = tirx.Expr


def bytes_as_word(read: Callable[[int], tirx.Expr], count: int = QUAD) -> tirx.Expr:
    """An int32 of `count` bytes read one by one, little end first; what is missing is zero."""
    word: tirx.Expr | None = None
    for i in range(count):
        byte = read(i).astype("uint8").astype("uint32")
        byte = tirx.shift_left(byte, tirx.const(8 * i, "uint32")) if i else byte
        word = byte if word is None else word | byte
    assert word is not None
    return tirx.reinterpret("int32", word)


def load_word(buffer: tirx.Var, *indices: tirx.Expr) -> tirx.Expr:
    """Four bytes of `buffer` from `indices` (unaligned) as one int32."""
    *lead, last = indices
    four = tirx.BufferLoad(buffer, [*lead, tirx.Ramp(last, tirx.const(1, last.ty.dtype), QUAD)])
    return tirx.reinterpret("int32", four)


def load_words(b: Builder, target: Target, buffer: tirx.Var, count: int, *indices: tirx.Expr) -> list[tirx.Expr]:
    """`count` neighbours of what load_word gives, as the target takes them into multiplications with least effort."""
    *lead, last = indices
    if not target.triple.startswith("aarch64") or count % QUAD:
        return [b.let(load_word(buffer, *lead, last + q * QUAD)) for q in range(count)]
    # a word of a register is multiplied with, or spread, from where it is
    vectors = [
        b.let(tirx.reinterpret("int32x4", load_vector(buffer, *lead, last + q * QUAD, count=4 * QUAD)))
        for q in range(0, count, QUAD)
    ]
    return [tirx.Shuffle([vector], [tirx.const(lane, "int32")]) for vector in vectors for lane in range(QUAD)]


def _vector(value: tirx.Expr, lanes: int) -> Vector:
    return tirx.Broadcast(value, lanes)


def _intrinsic(name: str, dtype: str, *operands: tirx.Expr) -> Vector:
    return tirx.call_llvm_pure_intrin(dtype, name, *operands)


def neon(dtype: str, name: str, *operands: Vector) -> Vector:
    """One of 64-bit Arm's vector instructions, by LLVM's name for it."""
    return _intrinsic(f"llvm.aarch64.neon.{name}", dtype, *operands)


@dataclass(frozen=True)
class Dot:
    """Sums of byte products on one target; `lanes` of int32."""

    lanes: int
    signed_left: bool  # whether an int8 left side is taken as well
    registers: int  # vectors a quad of weights takes once widened
    tile: tuple[int, int] | None = None  # rows and vectors of a tile, where there is one that suits
    fastest: str = ""  # the type of a left side that takes fewer instructions, where that is so

    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        """Four bytes of the left side, in every lane, as the multiplication wants them."""
        raise NotImplementedError

    def right(self, weights: Vector) -> tuple[Vector, ...]:
        """A vector of weights ([lanes][4] int8) as the multiplication wants it."""
        raise NotImplementedError

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        """acc + the products, lane by lane."""
        raise NotImplementedError


class _Vpdpbusd(Dot):
    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        return (tirx.reinterpret(f"int8x{4 * self.lanes}", _vector(word, self.lanes)),)

    def right(self, weights: Vector) -> tuple[Vector, ...]:
        return (weights,)

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        return _intrinsic(name, f"int32x{self.lanes}", acc, left[0], right[0])


class _Pmaddwd(Dot):
    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        words = _vector(word, self.lanes)
        if signed:
            return self._split(tirx.reinterpret(f"int16x{2 * self.lanes}", words))
        # apart in the vector: in the scalar word it would take more steps, and two broadcasts
        pairs = tirx.reinterpret(f"uint16x{2 * self.lanes}", words)
        mask, eight = (_vector(tirx.const(v, "uint16"), 2 * self.lanes) for v in (0x00FF, 8))
        return tuple(tirx.reinterpret(f"int16x{2 * self.lanes}", v) for v in (pairs & mask, pairs >> eight))

    def right(self, weights: Vector) -> tuple[Vector, ...]:
        return self._split(tirx.reinterpret(f"int16x{2 * self.lanes}", weights))

    def _split(self, pairs: Vector) -> tuple[Vector, ...]:
        eight = _vector(tirx.const(8, "int16"), 2 * self.lanes)
        return tirx.shift_right(tirx.shift_left(pairs, eight), eight), tirx.shift_right(pairs, eight)

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[self.lanes]
        for x, w in zip(left, right, strict=True):
            acc = acc + _intrinsic(f"llvm.x86.{name}", f"int32x{self.lanes}", x, w)
        return acc


class _Sdot(Dot):
    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        if signed:
            return (self._bytes(word),)
        return self._bytes(word ^ tirx.const(-0x7F7F7F80, "int32")), self._bytes(tirx.const(-0x7F7F7F80, "int32"))

    def _bytes(self, word: tirx.Expr) -> Vector:
        return tirx.reinterpret(f"int8x{QUAD * self.lanes}", _vector(word, self.lanes))

    def right(self, weights: Vector) -> tuple[Vector, ...]:
        return (weights,)

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        (weights,), (x, *moved) = right, left
        for minus in moved:  # -128 times the weights, which LLVM computes once for all rows
            acc = acc - self._dot("sdot", _vector(tirx.const(0, "int32"), self.lanes), minus, weights)
        return self._dot("sdot", acc, x, weights)

    def _dot(self, name: str, acc: Vector, x: Vector, weights: Vector) -> Vector:
        kind = f"llvm.aarch64.neon.{name}.v{self.lanes}i32.v{QUAD * self.lanes}i8"
        # signed bytes in this order: a lane of a register multiplies only as the second
        both = (weights, x) if name == "sdot" else (x, weights)
        return _intrinsic(kind, f"int32x{self.lanes}", acc, *both)


class _Smull(_Sdot):
    def _dot(self, name: str, acc: Vector, x: Vector, weights: Vector) -> Vector:
        def half(vector: Vector, which: int) -> Vector:
            return tirx.Shuffle([vector], [tirx.const(8 * which + i, "int32") for i in range(8)])

        pairs = []
        for which in (0, 1):
            products = neon("int16x8", "smull.v8i16", half(weights, which), half(x, which))
            pairs.append(neon("int32x4", "saddlp.v4i32.v8i16", products))
        return acc + neon("int32x4", "addp.v4i32", *pairs)


class _Usdot(_Sdot):
    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        # two of the same: that is how `add` knows unsigned bytes
        return (self._bytes(word),) * (1 if signed else 2)

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        return self._dot("sdot" if len(left) == 1 else "usdot", acc, left[0], right[0])


class _Portable(Dot):
    def left(self, word: tirx.Expr, signed: bool) -> tuple[Vector, ...]:
        shifted = [tirx.shift_left(word, tirx.const(24 - 8 * i, "int32")) for i in range(QUAD)]
        if signed:
            parts = [tirx.shift_right(s, tirx.const(24, "int32")) for s in shifted]
        else:
            unsigned = (tirx.reinterpret("uint32", s) for s in shifted)
            parts = [tirx.shift_right(u, tirx.const(24, "uint32")).astype("int32") for u in unsigned]
        return tuple(_vector(p, self.lanes) for p in parts)

    def right(self, weights: Vector) -> tuple[Vector, ...]:
        words = tirx.reinterpret(f"int32x{self.lanes}", weights)

        def by(bits: int) -> Vector:
            return _vector(tirx.const(bits, "int32"), self.lanes)

        return tuple(tirx.shift_right(tirx.shift_left(words, by(24 - 8 * i)), by(24)) for i in range(QUAD))

    def add(self, acc: Vector, left: tuple[Vector, ...], right: tuple[Vector, ...]) -> Vector:
        for x, w in zip(left, right, strict=True):
            acc = acc + x * w
        return acc


WAYS: dict[str, Callable[[int], Dot]] = {
    "vpdpbusd": lambda lanes: _Vpdpbusd(lanes, signed_left=False, registers=1, fastest="uint8"),
    "pmaddwd": lambda lanes: _Pmaddwd(lanes, signed_left=True, registers=2),
    "sdot": lambda lanes: _Sdot(lanes, signed_left=True, registers=1, fastest="int8"),
    "usdot": lambda lanes: _Usdot(lanes, signed_left=True, registers=1),
    "smull": lambda lanes: _Smull(lanes, signed_left=True, registers=1, fastest="int8"),
    "portable": lambda lanes: _Portable(lanes, signed_left=True, registers=4),
}


def _dsp(lanes: int) -> Dot:
    from .dot_dsp import DspDot

    return DspDot(lanes, signed_left=True, registers=2 * lanes, tile=(2, 1))


WAYS["smlad"] = _dsp
WAYS["mve"] = WAYS["portable"]  # its own templates sum along vectors (mve.py)


def dot_of(target: Target, lanes: int | None = None) -> Dot:
    """The target's way; `lanes` of int32 where fewer than a register's are wanted."""
    return WAYS[target.dot](lanes or target.lanes("int32"))


def load_vector(buffer: tirx.Var, *indices: tirx.Expr, count: int) -> Vector:
    """`count` neighbouring elements of `buffer`, as one vector."""
    *lead, last = indices
    return tirx.BufferLoad(buffer, [*lead, tirx.Ramp(last, tirx.const(1, last.ty.dtype), count)])


def store_vector(b: Builder, buffer: tirx.Var, value: Vector, *indices: tirx.Expr) -> None:
    """The elements of `value` stored from `indices` on."""
    *lead, last = indices
    lanes = int(str(value.ty.dtype).rpartition("x")[2])
    b.emit(tirx.BufferStore(buffer, value, [*lead, tirx.Ramp(last, tirx.const(1, last.ty.dtype), lanes)]))
