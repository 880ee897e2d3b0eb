"""Boards as data: which memory a microcontroller has where. One TOML file a board, the project's beside this module."""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from targets.errors import UsageError

KINDS = ("flash", "ram")
SPACE = 1 << 32


@dataclass(frozen=True)
class Region:
    """Bytes of one kind from address `origin` on. `start`: bytes at its front that are not ours (a boot loader)."""

    name: str
    kind: str
    origin: int
    length: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.origin + self.length


@dataclass(frozen=True)
class Board:
    """A board: its core (a target's name), memory, clock in MHz, and how QEMU calls it where it has it.

    The first flash region holds code and weights, the first RAM region stack and data; the arena goes to the first
    RAM region with room. ticks: instructions a tick of the harness's clock is worth on that machine.
    external_mb_s: how fast its external flash is read (a serial NOR flash with four lines at 40 MHz gives 20).
    """

    name: str
    title: str
    core: str
    clock_mhz: float
    regions: tuple[Region, ...]
    stack: int = 2048
    machine: str = ""
    icount: int = 0
    ticks: float = 1.0
    external_mb_s: float = 20.0

    def limited(self, ram: int | None, flash: int | None, stack: int | None) -> Board:
        """The board with fewer bytes in its first regions, and another stack; None leaves what is there.

        Raises UsageError for more than it has.
        """
        regions = list(self.regions)
        for kind, most in (("ram", ram), ("flash", flash)):
            if most is not None:
                region = self.of_kind(kind)[0]
                if most > region.length:
                    raise UsageError(f"--{kind} gives {most} bytes, {self.name} has {region.length} in {region.name}")
                regions[regions.index(region)] = replace(region, length=most)
        if stack is not None and (stack < 256 or stack % 8):
            raise UsageError(f"--stack {stack}: give a multiple of 8, at least 256")
        return replace(self, regions=tuple(regions), stack=stack or self.stack)

    def of_kind(self, kind: str) -> list[Region]:
        """The regions of that kind, in the file's order."""
        return [region for region in self.regions if region.kind == kind]


@cache
def all_boards() -> dict[str, Board]:
    """The boards that come with the project, by name."""
    return {path.stem: read_board(path) for path in sorted(Path(__file__).parent.glob("*.toml"))}


def get_board(name: str) -> Board:
    """The board of that name, or of that .toml file. Raises UsageError naming what is wrong or which ones there are."""
    if name.endswith(".toml"):
        return read_board(Path(name))
    if name not in all_boards():
        raise UsageError(f"unknown board {name!r}; there are: {', '.join(all_boards())}, or give a .toml file")
    return all_boards()[name]


def read_board(path: Path) -> Board:
    """The board a file describes. Raises UsageError with the first thing wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return _board(path.stem, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a board file: it is not UTF-8") from None
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise UsageError(f"{path}: not a board file: {error}") from None


def _board(name: str, data: dict[str, Any]) -> Board:
    unknown = set(data) - {"title", "core", "clock_mhz", "stack", "memory", "qemu", "external_mb_s"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    listed = data.get("memory")
    if not isinstance(listed, list) or not listed:
        raise ValueError("it has no [[memory]] regions")
    regions = tuple(_region(item) for item in listed)
    _check(regions)
    core, qemu = data.get("core"), data.get("qemu", {})
    if not isinstance(core, str):
        raise ValueError("core is missing: the name of a target")
    board = Board(
        name, str(data.get("title", name)), core, _number(data, "clock_mhz", 1), regions,
        int(_number(data, "stack", 2048)), str(qemu.get("machine", "")), int(_number(qemu, "icount", 0)),
        _number(qemu, "ticks", 1), _number(data, "external_mb_s", 20) or 20,
    )  # fmt: skip
    room = board.of_kind("ram")[0].length
    if not 256 <= board.stack <= room or board.stack % 8:
        raise ValueError(f"stack is {board.stack}: give a multiple of 8 from 256 to the first RAM region's {room}")
    return board


def _number(data: dict[str, Any], key: str, otherwise: float) -> float:
    value = data.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{key} is {value!r}, not a number")
    return value


def _region(item: Any) -> Region:
    if not isinstance(item, dict) or set(item) != {"name", "kind", "origin", "length"}:
        raise ValueError("a [[memory]] region has name, kind, origin and length")
    name, kind = item["name"], item["kind"]
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"region name {name!r} is no identifier")
    if kind not in KINDS:
        raise ValueError(f"region {name}: kind {kind!r} is neither of {', '.join(KINDS)}")
    for key in ("origin", "length"):
        if isinstance(item[key], bool) or not isinstance(item[key], int) or not 0 <= item[key] <= SPACE:
            raise ValueError(f"region {name}: {key} {item[key]!r} is no 32-bit number")
    region = Region(name, kind, item["origin"], item["length"])
    if not region.length or region.origin % 4 or region.length % 4:
        raise ValueError(f"region {name}: {region.length} bytes at {region.origin:#x} are not whole words")
    if region.end > SPACE:
        raise ValueError(f"region {name}: {region.length} bytes at {region.origin:#x} end beyond 32 bits")
    return region


def _check(regions: tuple[Region, ...]) -> None:
    names = [region.name for region in regions]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two regions are called {name}")
    for kind in KINDS:
        if not any(region.kind == kind for region in regions):
            raise ValueError(f"it has no region of kind {kind}")
    ordered = sorted(regions, key=lambda region: region.origin)
    for low, high in itertools.pairwise(ordered):
        if low.end > high.origin:
            raise ValueError(f"regions {low.name} and {high.name} overlap at {high.origin:#x}")
