"""Weights of 8 bits in two planes: the upper 5 or 6 bits of each code with the scales, and the others in a constant of
their own. Both together have the bytes that whole codes have. Who wants only bounds of a product reads the upper plane
(likeliest.py); everybody else puts the codes together again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from tvm import tirx

from .block_codes import LINE, QUADS, BlockCodes, Reader, Vector, pack_bits
from .builder import Builder
from .dot import QUAD, load_vector
from .stage import Const
from .tensor import Index, Tensor

# By bits of the lower plane, the words it consists of: how many bits of each code they hold, and from which on.
WORDS = {2: ((2, 0),), 3: ((2, 1), (1, 0))}


@dataclass(eq=False)
class Lower:
    """The lower plane: of each panel words of pairs of bits [blocks * 2][lanes], then, of 3 bits, of single ones
    [blocks][lanes], laid out as block_codes.py's high bits."""

    of: BlockCodes

    @property
    def panel_bytes(self) -> int:
        """Of a panel, a multiple of 64."""
        return -(-self.of.blocks * self.of.planes * self.of.lanes * 4 // LINE) * LINE

    @property
    def words(self) -> list[tuple[int, int, int]]:
        """WORDS, with the byte of a panel where the first of them stands."""
        found, start = [], 0
        for wide, to in WORDS[self.of.planes]:
            found.append((wide, to, start))
            start += self.of.blocks * wide * self.of.lanes * 4
        return found

    @cached_property
    def const(self) -> Const:
        """All panels, uint8 [panels, panel_bytes]."""
        w = self.of

        def make() -> np.ndarray:
            codes = w.numbers(w.codes)
            out = np.zeros((w.panels, self.panel_bytes), np.uint8)
            for wide, to, start in self.words:
                words = pack_bits(codes >> to & ((1 << wide) - 1), wide, w.lanes)
                flat = np.ascontiguousarray(words).reshape(w.panels, -1).view(np.uint8)
                out[:, start : start + flat.shape[1]] = flat
            return out

        name = w.codes.name
        key = f"{name}:lower{w.planes}:panels{w.lanes}"
        return Const((w.panels, self.panel_bytes), "uint8", make, key, f"{name}_lower")


def upper_of(w: BlockCodes) -> BlockCodes:
    """The upper plane as weights of fewer bits."""
    whole, low = w.codes, w.planes
    codes = Tensor(whole.shape, whole.dtype, f"{whole.name}.upper")
    codes.data = lambda: w.numbers(whole) >> low
    return replace(w, codes=codes, bits=8 - low, zero=1 << (7 - low), planes=0)


class PlanesReader(Reader):
    """Whole codes, out of both planes."""

    def __init__(self, b: Builder, weights: BlockCodes) -> None:
        super().__init__(b, upper_of(weights))
        self.lower = Lower(weights)
        self.low = b.arg(self.lower.const)
        self.low_flat = b.arg(self.lower.const, (weights.panels * self.lower.panel_bytes,))

    def spans(self, units: int, each: int) -> None:
        """See Reader."""
        super().spans(units, each)
        self.b.reading.span(self.lower.const, units, each * self.lower.panel_bytes)

    def streams(self) -> list[tuple[tirx.Var, int]]:
        """See Reader."""
        return [*super().streams(), (self.low_flat, self.lower.panel_bytes)]

    def codes(self, panel: Index, block: tirx.Expr, first: int, count: int) -> list[Vector]:
        """See Reader."""
        b, held = self.b, dict[tuple[int, int], Vector]()
        made: list[Vector] = []
        for q, code in enumerate(super().codes(panel, block, first, count), first):
            word = tirx.shift_left(tirx.reinterpret(f"uint32x{self.lanes}", code), self._by(self.lower.of.planes))
            for wide, to, start in self.lower.words:
                each = 8 // wide  # quads in a word
                key = (start, q // each)
                if key not in held:
                    row = block * (QUADS // each) + q // each
                    at = tirx.const(start, "int64") + row * (self.lanes * 4)
                    loaded = load_vector(self.low, panel, at, count=self.lanes * 4)
                    held[key] = b.let(tirx.reinterpret(f"uint32x{self.lanes}", loaded))
                bits = self._shifted(held[key], to - wide * (q % each)) & self._mask(((1 << wide) - 1) << to)
                word = word | bits
            made.append(b.let(tirx.reinterpret(f"int8x{QUAD * self.lanes}", word)))
        return made


def reader_of(b: Builder, weights: BlockCodes) -> Reader:
    """What reads these weights."""
    return PlanesReader(b, weights) if weights.planes else Reader(b, weights)
