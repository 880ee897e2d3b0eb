"""Whether coding a segment makes reading it faster on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flashload.coding.planes import LEAST_SAVED
from flashload.profile import FlashProfile

BLOCK = 256 << 10
DEPTHS = (1, 2, 4)
MARGIN = 0.98  # a gain of less is not worth a core


@dataclass(frozen=True)
class DecodeSpeed:
    """Bytes a second that one core decodes: of planes that are coded, and of such that are not."""

    coded: float
    plain: float

    def seconds(self, bits: Sequence[float]) -> float:
        """For a byte of each plane; bits: what each holds (8: nothing to save)."""
        return sum(1 / (self.coded if saves(b) else self.plain) for b in bits)


def saves(bits: float) -> bool:
    """Whether a plane of so many bits a byte is coded."""
    return bits < 8 * (1 - LEAST_SAVED)


def pays(bits: Sequence[float], decode: DecodeSpeed, flash: FlashProfile) -> bool:
    """Whether reading less outweighs decoding. bits: of each plane's bytes.

    One core computes; the others decode what was read while more is read, or, where there is none, in between.
    """
    width, speed = len(bits), max(flash.speed(BLOCK, depth) for depth in DEPTHS)
    ratio = sum(b / 8 if saves(b) else 1 for b in bits) / width
    read, work = ratio / speed, decode.seconds(bits) / width
    coded = max(read, work / (flash.cores - 1)) if flash.cores > 1 else read + work
    return coded < MARGIN / speed
