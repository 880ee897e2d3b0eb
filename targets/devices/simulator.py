"""The one interface of simulated microcontrollers, and which there are."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from targets.boards import Board
from targets.errors import EdgertError

from .firmware import Firmware

REPORT = struct.Struct("<iIIII")  # `report` of targets/firmware/main.c
NO_STACK = -0x5AC4  # as there
EXTERNAL, FLASH = ".edgert.external", "flash.bin"  # the firmware's section of an external flash, and its file
SEMIHOSTING = ("in.bin", "out.bin")  # the files that the harness is told to read and write


@dataclass(frozen=True)
class Task:
    """What to run: a firmware for a board, whose model's entry is `entry`, on frames of input bytes."""

    firmware: Firmware
    board: Board
    entry: str
    frames: Sequence[bytes]
    output_bytes: int
    profile: bool = False
    check_alignment: bool = False


@dataclass(frozen=True)
class Run:
    """One run of the model. instructions: from the entry's first to its return; steps: those of each, if asked for.
    stalls: cycles waited for external flash beside them, were an instruction one cycle; flash_bytes: read from it.
    accesses: of memory, each looked at whether it was aligned, where that was asked for.
    """

    outputs: bytes
    instructions: int
    stack_bytes: int
    arena_bytes: int
    steps: list[int] = field(default_factory=list)
    stalls: int | None = None
    flash_bytes: int = 0
    accesses: int = 0


class Simulator(Protocol):
    """A way to run firmware."""

    name: str

    def missing(self, board: Board) -> str:
        """Why it cannot run that board here; empty where it can."""

    def run(self, task: Task) -> list[Run]:
        """A result per frame. Raises EdgertError where the firmware fails."""


def no_stack(firmware: Firmware) -> str:
    """What to say where a model took more stack than was kept for it."""
    low, top = (firmware.symbols[f"edgert_stack_{end}"][0] for end in ("low", "top"))
    return f"the model takes more than the {top - low} bytes of stack that are kept: compile with a larger --stack"


def parse_reports(data: bytes, task: Task) -> list[tuple[int, int, int, bytes]]:
    """(ticks, stack bytes, arena bytes, outputs) of each run from the file that the harness wrote."""
    size = REPORT.size + task.output_bytes
    if len(data) != size * len(task.frames):
        raise EdgertError(
            f"the firmware gave {len(data)} bytes for {len(task.frames)} runs of {size}: it stopped early"
        )
    found = []
    for at in range(0, len(data), size):
        status, stack, arena, low, high = REPORT.unpack_from(data, at)
        if status == NO_STACK:
            raise EdgertError(no_stack(task.firmware))
        if status:
            raise EdgertError(f"the model failed on the device with {status}")
        found.append((high << 32 | low, stack, arena, data[at + REPORT.size : at + size]))
    return found
