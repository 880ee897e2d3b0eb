"""What a planner knows of a device: how fast its flash and its memory are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FlashProfile:
    """Read speeds in bytes a second.

    sequential, random: by block size in bytes and reads at once (queue depth); at least one entry in `sequential`.
    dram: of memory, one core.
    """

    name: str
    sequential: Mapping[tuple[int, int], float]
    random: Mapping[tuple[int, int], float] = field(default_factory=dict)
    dram: float = 10e9

    def speed(self, block: int, depth: int) -> float:
        """Sequential bytes a second with blocks of about that size, so many at once: the nearest that was measured,
        smaller rather than larger."""
        below = [key for key in self.sequential if key[0] <= block and key[1] <= depth] or list(self.sequential)
        return self.sequential[max(below)]


# Where nobody measured: a plain NVMe disk behind a virtual machine.
ASSUMED = FlashProfile("assumed", {(128 << 10, 1): 0.8e9, (256 << 10, 1): 1.1e9, (256 << 10, 4): 1.4e9}, dram=12e9)
