"""Which tiles a microcontroller's kernels take: `--optimize`."""

from __future__ import annotations

from collections.abc import Callable

from compiler.tune import Records
from compiler.tune.records import call_key
from edgert.errors import UsageError
from targets.kernels.dsp_calls import FAST
from targets.kernels.registry import Call
from targets.microcontroller import Microcontroller

Tiles = dict[str, int]


def tiles_of(target: Microcontroller, optimize: str | None, trials: int = 0) -> Callable[[Call], Tiles]:
    """For size the templates' own, which share code; for speed those on record, else what should be fast.

    Raises UsageError where a compile is asked to count candidates itself, or optimize is something else.
    """
    if trials:
        raise UsageError(
            f"--tune: `edgert tune MODEL --target {target.name}` counts on the simulator; then --optimize speed"
        )
    if optimize not in (None, "size", "speed"):
        raise UsageError(f"optimize is {optimize!r}: there are size and speed")
    if optimize != "speed":
        return lambda call: {}
    records = Records(target)
    return lambda call: records(call) if call_key(call) in records.found else {FAST: 1}
