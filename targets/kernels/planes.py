"""Weights of 8 bits in two planes: the upper 5 bits of each code with the scales, and the lower 3 in a constant of its
own. Both together have the bytes that whole codes have. Who wants only bounds of a product reads the upper plane
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

LOW = 3  # bits of the lower plane
PAIR, ONE = 2, 1  # of which two are kept in words of their own, and one


@dataclass(eq=False)
class Lower:
    """The lower plane: of each panel, words of pairs of bits [blocks * 2][lanes], then of single ones [blocks][lanes],
    laid out as block_codes.py's high bits."""

    of: BlockCodes

    @property
    def ones(self) -> int:
        """Where in a panel the single bits begin."""
        return self.of.blocks * PAIR * self.of.lanes * 4

    @property
    def panel_bytes(self) -> int:
        """Of a panel, a multiple of 64."""
        return -(-self.of.blocks * LOW * self.of.lanes * 4 // LINE) * LINE

    @cached_property
    def const(self) -> Const:
        """All panels, uint8 [panels, panel_bytes]."""
        w = self.of

        def make() -> np.ndarray:
            codes = w.numbers(w.codes)
            out = np.zeros((w.panels, self.panel_bytes), np.uint8)
            start = 0
            for values, wide in ((codes >> ONE & 3, PAIR), (codes & 1, ONE)):
                words = np.ascontiguousarray(pack_bits(values, wide, w.lanes)).reshape(w.panels, -1).view(np.uint8)
                out[:, start : start + words.shape[1]] = words
                start += words.shape[1]
            return out

        name = w.codes.name
        return Const((w.panels, self.panel_bytes), "uint8", make, f"{name}:lower{LOW}:panels{w.lanes}", f"{name}_lower")


def upper_of(w: BlockCodes) -> BlockCodes:
    """The upper plane as weights of 5 bits."""
    whole = w.codes
    codes = Tensor(whole.shape, whole.dtype, f"{whole.name}.upper")
    codes.data = lambda: w.numbers(whole) >> LOW
    return replace(w, codes=codes, bits=8 - LOW, zero=1 << (7 - LOW), planes=False)


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
            word = tirx.shift_left(tirx.reinterpret(f"uint32x{self.lanes}", code), self._by(LOW))
            for wide, to in ((PAIR, ONE), (ONE, 0)):
                each = 8 // wide  # quads in a word
                key = (wide, q // each)
                if key not in held:
                    start = 0 if wide == PAIR else self.lower.ones
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
