"""Whether a firmware fits its board: what the linker placed, region by region, and what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgert.errors import DoesNotFit
from targets.boards import Board, Region
from targets.devices.firmware import Firmware

# section -> what it is called in the table
PARTS = {
    ".vectors": "code", ".text": "code", ".rodata": "code", ".ARM.exidx": "code", ".weights": "weights",
    ".data": "data", ".bss": "data", ".io": "inputs and outputs", ".stack": "stack", ".arena": "arena",
}  # fmt: skip
ROOMY = 64 << 20


@dataclass(frozen=True)
class Use:
    """One region: its bytes, those taken, and by what."""

    region: str
    have: int
    need: int
    parts: dict[str, int]


def roomy(board: Board) -> Board:
    """The board with regions as long as addresses allow, so that whatever is too large links and can be measured."""
    starts = [*sorted(region.origin for region in board.regions), 1 << 32]

    def longest(region: Region) -> int:
        after = next(start for start in starts if start > region.origin)
        return max(region.length, min(after - region.origin, ROOMY))

    return replace(board, regions=tuple(replace(region, length=longest(region)) for region in board.regions))


def uses(elf: bytes, board: Board) -> list[Use]:
    """What the file takes of each region. Initial values of data are in flash as well."""
    firmware, wide = Firmware.read(elf), roomy(board)
    found = []
    for region in wide.regions:
        parts: dict[str, int] = {}
        last = region.origin
        for section, what in PARTS.items():
            address, size = firmware.sections.get(section, (0, 0))
            if size and region.origin <= address < region.end:
                parts[what] = parts.get(what, 0) + size
                last = max(last, address + size)
        if region is wide.of_kind("flash")[0]:
            initial = firmware.sections.get(".data", (0, 0))[1]
            parts = {**parts, "data": initial} if initial else parts
            last += initial
        have = next(r.length for r in board.regions if r.name == region.name)
        found.append(Use(region.name, have, last - region.origin, parts))
    return found


def check(found: Sequence[Use], board: Board, manifest: Mapping[str, Any]) -> None:
    """Raises DoesNotFit with a table where a region takes more than it has, and what would make it fit."""
    over = [use for use in found if use.need > use.have]
    if not over:
        return
    short = "; ".join(f"{use.region} needs {use.need} bytes and has {use.have}" for use in over)
    lines = [f"does not fit on {board.name}: {short}"]
    width = max(len(what) for use in found for what in use.parts)
    for use in found:
        if use.parts:
            lines.append(f"  {use.region}: {use.need:,} of {use.have:,} bytes")
            lines += [f"    {what:{width}}  {size:>12,}" for what, size in use.parts.items()]
    lines += [f"  try: {advice}" for advice in _advice(over, board, manifest)]
    raise DoesNotFit("\n".join(lines), board=board.name, regions=[asdict(use) for use in found])


def _advice(over: Sequence[Use], board: Board, manifest: Mapping[str, Any]) -> list[str]:
    advice = []
    for use in over:
        if use.region == board.of_kind("flash")[0].name:
            weights = use.parts.get("weights", 0)
            if weights > use.need - use.have:
                advice.append("--weights-in external, which reads them by blocks from a flash of their own")
            if any("f32" in step["kernel"] for step in manifest["steps"] if step.get("macs")):
                advice.append("--quant int8, or int4 weights, which take a quarter or an eighth of float32")
            advice.append(f"a board with {use.need} bytes of flash")
        else:
            if "split" not in manifest:
                advice.append(f"--ram {use.have}, which splits operators so that less of them is there at once")
            advice.append(f"a board with {use.need} bytes of RAM")
    return advice
