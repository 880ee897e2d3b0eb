"""Constant weights of 4, 5, 6 or 8 bits in blocks along the depth, as kernels of integer products keep and unpack them.

A weight is scale * code + minimum, or scale * (code - zero), as in GGUF's types. One row of bytes holds a panel, which
is `lanes` columns of the product; in it one after the other, each part starting at a multiple of 64 bytes:

low    4 bits of each code: nibbles.py's words, four for 32 neighbours along the depth; of 8 bits, the bytes themselves,
       eight words of four neighbours
high   the fifth bits of 32 neighbours in a word, or the fifth and sixth of 16; bit 8j + i is of neighbour 4i + j
scale, minimum        [blocks][lanes] of float16 or float32; or of bytes where 256 neighbours share a factor as well
super scale, super minimum   [depth/256][lanes], those factors

So a product reads its weights front to back, in one stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import QUAD, load_vector
from .nibble_dot import halves
from .nibbles import pack_nibbles, splat
from .packing import pack_panels
from .stage import Const
from .storage import halves_are_read
from .tensor import Index, Tensor
from .tiles_emit import prefetch

STEP = 32  # neighbours along the depth that are unpacked together: those that a scale of the left side is for
QUADS = STEP // QUAD
SUPER = 256  # neighbours that share a super scale
LINE = 64  # bytes
AHEAD = 4096  # bytes of weights between what is read and what is asked for
BITS = (4, 5, 6, 8)
LEAVES = ("codes", "scale", "minimum", "super_scale", "super_minimum")
Vector: TypeAlias = tirx.Expr


@dataclass(eq=False)
class Part:
    """One array of a panel: [rows][lanes] of `dtype`, from byte `start` on."""

    dtype: str
    rows: int
    start: int
    make: Callable[[], np.ndarray]  # gives [panels, rows, lanes]


@dataclass(eq=False)
class BlockCodes:
    """codes uint8 [cols, depth] with what their blocks share, all constant leaves [cols, blocks]."""

    codes: Tensor
    bits: int
    size: int  # neighbours that share a scale: 16 or 32
    zero: int
    scale: Tensor  # with a super scale: whole numbers to multiply it by
    minimum: Tensor | None  # added; with a super minimum: whole numbers, whose product with it is subtracted
    super_scale: Tensor | None
    super_minimum: Tensor | None
    lanes: int
    halves: bool  # whether the target converts float16
    planes: int = 0  # bits of the lower of two planes, where it is kept in those: see planes.py

    @classmethod
    def of(cls, attrs: dict[str, Any], leaves: list[Tensor | None], target: Target) -> BlockCodes | None:
        """leaves: codes, scale, minimum, super scale, super minimum. None where no kernel takes them."""
        codes, scale, minimum, super_scale, super_minimum = (*leaves, *[None] * 5)[:5]
        given = [t for t in (codes, scale, minimum, super_scale, super_minimum) if t is not None]
        if codes is None or scale is None or any(t.data is None for t in given) or 0 in codes.shape:
            return None
        bits, size, zero = int(attrs["bits"]), int(attrs["size"]), int(attrs.get("zero", 0))
        depth = int(codes.shape[1])
        if bits not in BITS or size not in (16, 32) or depth % (SUPER if super_scale is not None else STEP):
            return None
        return cls(
            codes, bits, size, zero, scale, minimum, super_scale, super_minimum, target.lanes("int32"),
            halves_are_read(target), int(attrs.get("planes", 0)) if target.family == "cpu" else 0,
        )  # fmt: skip

    @property
    def depth(self) -> int:
        """Length of the sums."""
        return int(self.codes.shape[1])

    @property
    def cols(self) -> int:
        """Columns of the product."""
        return int(self.codes.shape[0])

    @property
    def blocks(self) -> int:
        """Steps of 32 along the depth."""
        return self.depth // STEP

    @property
    def parts(self) -> int:
        """Scales in a step."""
        return STEP // self.size

    @property
    def panels(self) -> int:
        """Panels of columns."""
        return -(-self.cols // self.lanes)

    @property
    def kind(self) -> str:
        """For kernels' names: u4g32m with minima, u4g32 without; k where there are super scales, p in planes."""
        name = f"u{self.bits}g{self.size}{'m' if self.minimum else ''}{'k' if self.super_scale else ''}"
        return f"{name}p" if self.planes else name

    # ---- in memory --------------------------------------------------------------------------------------------------
    @cached_property
    def layout(self) -> dict[str, Part]:
        """The parts of a panel by name."""
        found: dict[str, Part] = {}
        start = 0

        def add(name: str, dtype: str, rows: int, make: Callable[[], np.ndarray]) -> None:
            nonlocal start
            found[name] = Part(dtype, rows, start, make)
            start += -(-rows * self.lanes * np.dtype(dtype).itemsize // LINE) * LINE

        add("low", "uint32", self.blocks * (QUADS if self.bits == 8 else QUADS // 2), self._low)
        if self.bits in (5, 6):
            add("high", "uint32", self.blocks * (self.bits - 4), self._high)
        shared = {
            "scale": self.scale, "minimum": self.minimum, "super scale": self.super_scale,
            "super minimum": self.super_minimum,
        }  # fmt: skip
        for name, t in shared.items():
            if t is not None:
                add(name, self._dtype(t), int(t.shape[1]), lambda t=t: self._shared(t))  # type: ignore[misc]
        return found

    @cached_property
    def panel_bytes(self) -> int:
        """Bytes of a panel, a multiple of 64."""
        last = list(self.layout.values())[-1]
        return -(-(last.start + last.rows * self.lanes * np.dtype(last.dtype).itemsize) // LINE) * LINE

    @property
    def form(self) -> str:
        """Types of the parts."""
        return ",".join(f"{name}={part.dtype}" for name, part in self.layout.items())

    def const(self) -> Const:
        """All panels, uint8 [panels, panel_bytes]."""

        def make() -> np.ndarray:
            out = np.zeros((self.panels, self.panel_bytes), np.uint8)
            for part in self.layout.values():
                made = np.ascontiguousarray(part.make()).reshape(self.panels, -1).view(np.uint8)
                out[:, part.start : part.start + made.shape[1]] = made
            return out

        leaves = {name: getattr(self, name) for name in LEAVES}
        names = ":".join("" if t is None else t.name for t in leaves.values())
        key = f"{names}:bits{self.bits}g{self.size}:panels{self.lanes}:{self.form}"

        def again(to: Callable[[Tensor], Tensor], attrs: dict[str, Any]) -> Const | None:
            moved: dict[str, Any] = {name: to(t) for name, t in leaves.items() if t is not None}
            made = replace(self, **moved)
            return made.const() if made.form == self.form else None

        return Const((self.panels, self.panel_bytes), "uint8", make, key, f"{self.codes.name}_packed", again)

    def numbers(self, t: Tensor) -> np.ndarray:
        """A leaf's numbers."""
        assert t.data is not None
        return np.asarray(t.data())

    def _dtype(self, t: Tensor) -> str:
        if t.dtype in ("uint8", "int8"):
            return t.dtype
        if not self.halves:
            return "float32"
        if t.dtype == "float16":
            return "float16"
        values = self.numbers(t)
        with np.errstate(over="ignore"):
            return "float16" if (values == values.astype(np.float16)).all() else "float32"

    def _shared(self, t: Tensor) -> np.ndarray:
        return pack_panels(np.ascontiguousarray(self.numbers(t).astype(self._dtype(t)).T), self.lanes)

    def _low(self) -> np.ndarray:
        codes = self.numbers(self.codes)
        if self.bits < 8:
            return pack_nibbles(codes.T, self.lanes)
        words = np.ascontiguousarray(codes).view("<u4")  # four neighbours, [cols, depth / 4]
        return pack_panels(words.T, self.lanes)

    def _high(self) -> np.ndarray:
        return pack_bits(self.numbers(self.codes) >> 4, self.bits - 4, self.lanes)


def pack_bits(codes: np.ndarray, wide: int, lanes: int) -> np.ndarray:
    """Codes [cols, depth] of `wide` bits, 8 / wide quads of neighbours in a word: [panels, words, lanes]."""
    # [cols, words, quads of a word, QUAD]: quad i of a word has bits wide * i and on, in the byte of its place
    quads = codes.reshape(len(codes), -1, 8 // wide, QUAD).astype(np.uint32)
    shifts = np.arange(8 // wide, dtype=np.uint32)[:, None] * wide + 8 * np.arange(QUAD, dtype=np.uint32)
    return pack_panels(np.bitwise_or.reduce(quads << shifts, axis=(2, 3)).T, lanes)


class Reader:
    """Vectors of a panel's parts in a kernel."""

    def __init__(self, b: Builder, weights: BlockCodes) -> None:
        self.b, self.w, self.lanes = b, weights, weights.lanes
        self.const = const = weights.const()
        self.data = b.arg(const)
        self.flat = b.arg(const, (weights.panels * weights.panel_bytes,))

    def spans(self, units: int, each: int) -> None:
        """Says that run i of `units` equal runs of tasks reads the panels from i * each on, `each` of them."""
        self.b.reading.span(self.const, units, each * self.w.panel_bytes)

    def streams(self) -> list[tuple[tirx.Var, int]]:
        """What is read front to back, as bytes, and how many of them a panel has."""
        return [(self.flat, self.w.panel_bytes)]

    def ahead(self, panel: Index) -> Callable[[tirx.Expr], None]:
        """Asks, given a step of 32, for what comes AHEAD bytes behind it."""
        bases = [(flat, size, self.b.let(panel * size + AHEAD)) for flat, size in self.streams()]

        def ask(block: tirx.Expr) -> None:
            for flat, size, base in bases:
                each = -(-size // self.w.blocks // LINE) * LINE  # of a step, in whole cache lines
                for line in range(0, each, LINE):
                    prefetch(self.b, flat, base + (block * each + line))

        return ask

    def load(self, name: str, panel: Index, row: Index) -> Vector:
        """One row of a part, as it is stored."""
        part = self.w.layout[name]
        item = np.dtype(part.dtype).itemsize
        at = tirx.const(part.start, "int64") + row * (self.lanes * item)
        loaded = load_vector(self.data, panel, at, count=self.lanes * item)
        return loaded if part.dtype == "uint8" else tirx.reinterpret(f"{part.dtype}x{self.lanes}", loaded)

    def floats(self, name: str, panel: Index, row: Index) -> Vector:
        """One row of a part, as float32."""
        return self.b.let(self.load(name, panel, row).astype(f"float32x{self.lanes}"))

    def super_factors(self, panel: Index, row: Index) -> dict[str, Vector]:
        """By name, what the scales and minima of 256 neighbours are to be multiplied by; nothing where that is 1."""
        names = ("super scale", "super minimum")
        return {name: self.floats(name, panel, row) for name in names if name in self.w.layout}

    def codes(self, panel: Index, block: tirx.Expr, first: int, count: int) -> list[Vector]:
        """Quads `first` on of a step of 32, as bytes from 0 on in int8 vectors; first and count are even."""
        b, w, lanes = self.b, self.w, self.lanes
        kind = f"int8x{QUAD * lanes}"
        if w.bits == 8:
            loaded = [self.load("low", panel, block * QUADS + q) for q in range(first, first + count)]
            return [b.let(tirx.reinterpret(kind, v)) for v in loaded]
        words: list[Vector] = []
        for word in range(first // 2, (first + count) // 2):
            loaded = b.let(self.load("low", panel, block * (QUADS // 2) + word))
            words += [tirx.reinterpret(f"uint32x{lanes}", half) for half in halves(loaded, lanes)]
        if w.bits > 4:
            wide = w.bits - 4
            each = 8 // wide  # quads whose high bits are in one word
            held: dict[int, Vector] = {}
            for i, q in enumerate(range(first, first + count)):
                if q // each not in held:
                    held[q // each] = b.let(self.load("high", panel, block * wide + q // each))
                bits = self._shifted(held[q // each], 4 - wide * (q % each))
                words[i] = words[i] | (bits & self._mask(((1 << wide) - 1) << 4))
        return [b.let(tirx.reinterpret(kind, v)) for v in words]

    def _shifted(self, v: Vector, left: int) -> Vector:
        if left == 0:
            return v
        return tirx.shift_left(v, self._by(left)) if left > 0 else tirx.shift_right(v, self._by(-left))

    def _mask(self, byte: int) -> Vector:
        return splat(byte * 0x01010101, "uint32", self.lanes)

    def _by(self, bits: int) -> Vector:
        return splat(bits, "uint32", self.lanes)
