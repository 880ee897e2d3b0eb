"""Where weights lie in flash: what is small together at the beginning, everything else cut into segments, in order of
use, so that each can be read by itself while the model runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = 4096
ALIGNMENT = 64
LEAST = 64 << 10  # bytes from which on a weight may be streamed; smaller ones stay in memory
BLOCK = 256 << 10  # bytes of a segment, about: reading is fast from there on, and a ring of a few is small
MOST = 4 << 20  # of a segment of weights that stay, and of one that is cut to fit pages


@dataclass(frozen=True)
class Weight:
    """`size` in bytes; piece: into how large ones to cut it, whole pages; 0: it stays in one.
    stays: several steps of a run read it, so that it is kept in memory like what is small."""

    size: int
    piece: int = 0
    stays: bool = False

    @property
    def streams(self) -> bool:
        """Whether it may be read while the model runs."""
        return self.size >= LEAST and not self.stays


@dataclass(frozen=True)
class Segment:
    """Bytes [offset, offset + size) of weights.bin."""

    offset: int
    size: int
    resident: bool


@dataclass(frozen=True)
class Layout:
    """offsets: of each weight. parts: of each weight, the range of segments that hold it; none for small ones."""

    total: int
    offsets: list[int]
    segments: list[Segment]
    parts: list[range | None]


def lay_out(weights: Sequence[Weight]) -> Layout:
    """Places weights given in order of use."""
    offsets = [0] * len(weights)
    parts: list[range | None] = [None] * len(weights)
    segments: list[Segment] = []
    large = [i for i, weight in enumerate(weights) if weight.streams]
    end = 0
    for i, weight in enumerate(weights):
        if not weight.streams:
            offsets[i] = end
            end = up(end + weight.size, ALIGNMENT)
    if large:
        end = up(end, PAGE)
    segments += [Segment(at, min(MOST, end - at), True) for at in range(0, end, MOST)]
    for i in large:
        offsets[i], first = end, len(segments)
        last = up(weights[i].size, PAGE if i != large[-1] else ALIGNMENT)
        each = weights[i].piece or last
        segments += [Segment(end + at, min(each, last - at), False) for at in range(0, last, each)]
        parts[i] = range(first, len(segments))
        end += last
    return Layout(end, offsets, segments, parts)


def cut(sizes: Sequence[int]) -> int:
    """How many units of weights to put in one piece. sizes: bytes of a unit of each weight that is read side by side.

    About a block of all, whole pages of each. 0 where that takes too many.
    """
    least = math.lcm(*(PAGE // math.gcd(PAGE, size) for size in sizes))
    count = least * max(1, round(BLOCK / (least * sum(sizes))))
    return count if count * sum(sizes) <= MOST else 0


def up(size: int, to: int) -> int:
    """The next multiple."""
    return -(-size // to) * to
