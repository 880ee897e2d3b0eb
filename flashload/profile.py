"""What a planner knows of a device: how fast its flash and its memory are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FlashProfile:
    """Read speeds in bytes a second.

    sequential, random: by block size in bytes and reads at once (queue depth); at least one entry in `sequential`.
    dram: of memory, one core. source: where the figures are from.
    """

    name: str
    sequential: Mapping[tuple[int, int], float]
    random: Mapping[tuple[int, int], float] = field(default_factory=dict)
    dram: float = 10e9
    cores: int = 1
    source: str = ""

    def speed(self, block: int, depth: int) -> float:
        """Sequential bytes a second with blocks of about that size, so many at once: the nearest that was measured,
        smaller rather than larger."""
        below = [key for key in self.sequential if key[0] <= block and key[1] <= depth] or list(self.sequential)
        return self.sequential[max(below)]

    def seconds(self, size: int, block: int, depth: int = 1, random: bool = False) -> float:
        """Time to read `size` bytes in blocks of `block` bytes, one after the other or from anywhere.

        Where the nearest smaller block was measured, reads take as long as that one's at least: a block of 5 KiB is
        not read faster, in bytes a second, than was measured for 4 KiB.
        """
        table = self.random if random and self.random else self.sequential
        below = [key for key in table if key[0] <= block and key[1] <= depth]
        key = max(below) if below else min(table)
        whole = max(block, key[0])  # smaller than all that was measured: a read costs what the smallest does
        return -(-size // block) * whole / table[key]


# Where nobody measured: a plain NVMe disk behind a virtual machine.
ASSUMED = FlashProfile("assumed", {(128 << 10, 1): 0.8e9, (256 << 10, 1): 1.1e9, (256 << 10, 4): 1.4e9}, dram=12e9)
