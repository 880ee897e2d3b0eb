"""Weights of 8 bits in two planes: the upper 6 bits of each code with the scales, and the lower 2 in a constant of its
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

LOW = 2  # bits of the lower plane; with one more, bounds are twice as loose, and 20 times as many panels reach the best
EACH = 8 // LOW  # quads whose lower bits are in a word


@dataclass(eq=False)
class Lower:
    """The lower plane: of each panel words [blocks * 2][lanes], laid out as block_codes.py's high bits."""

    of: BlockCodes

    @property
    def panel_bytes(self) -> int:
        """Of a panel, a multiple of 64."""
        return -(-self.of.blocks * LOW * self.of.lanes * 4 // LINE) * LINE

    @cached_property
    def const(self) -> Const:
        """All panels, uint8 [panels, panel_bytes]."""
        w = self.of

        def make() -> np.ndarray:
            words = pack_bits(w.numbers(w.codes) & ((1 << LOW) - 1), LOW, w.lanes)
            out = np.zeros((w.panels, self.panel_bytes), np.uint8)
            flat = np.ascontiguousarray(words).reshape(w.panels, -1).view(np.uint8)
            out[:, : flat.shape[1]] = flat
            return out

        name = w.codes.name
        return Const((w.panels, self.panel_bytes), "uint8", make, f"{name}:lower{LOW}:panels{w.lanes}", f"{name}_lower")


def upper_of(w: BlockCodes) -> BlockCodes:
    """The upper plane as weights of 6 bits."""
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
        b, held = self.b, dict[int, Vector]()
        made: list[Vector] = []
        for q, code in enumerate(super().codes(panel, block, first, count), first):
            word = tirx.shift_left(tirx.reinterpret(f"uint32x{self.lanes}", code), self._by(LOW))
            if q // EACH not in held:
                at = (block * (QUADS // EACH) + q // EACH) * (self.lanes * 4)
                loaded = load_vector(self.low, panel, at, count=self.lanes * 4)
                held[q // EACH] = b.let(tirx.reinterpret(f"uint32x{self.lanes}", loaded))
            word = word | (self._shifted(held[q // EACH], -LOW * (q % EACH)) & self._mask((1 << LOW) - 1))
            made.append(b.let(tirx.reinterpret(f"int8x{QUAD * self.lanes}", word)))
        return made


def reader_of(b: Builder, weights: BlockCodes) -> Reader:
    """What reads these weights."""
    return PlanesReader(b, weights) if weights.planes else Reader(b, weights)
