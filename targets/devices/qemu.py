"""Microcontrollers in QEMU: the only one with MVE, and a second opinion on unicorn.

With -icount virtual time is a count of instructions, so the harness's clock counts them; the board file says how many
instructions a tick is worth.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from targets.boards import Board
from targets.errors import EdgertError

from .entry import calls_of, encoding_of, without_calls
from .simulator import EXTERNAL, FLASH, SEMIHOSTING, Run, Task, parse_reports

PROGRAMS = {"riscv32imac": "qemu-system-riscv32"}
SECONDS = 600


def program(board: Board) -> str:
    """The QEMU that has the board's core."""
    return PROGRAMS.get(board.core, "qemu-system-arm")


class QemuSimulator:
    """See the module."""

    name = "qemu"

    def missing(self, board: Board) -> str:
        """Why not; empty where it can run the board."""
        if not board.machine:
            return f"QEMU has no {board.name}"
        if shutil.which(program(board)) is None:
            return f"{program(board)} is not installed (apt: qemu-system-arm, qemu-system-misc)"
        return ""

    def run(self, task: Task) -> list[Run]:
        """A result per frame; for a profile with the instructions of each step on the first one."""
        reports = self._reports(task, task.firmware.data, task.frames)
        runs = [Run(outputs, round(ticks * task.board.ticks), stack, arena) for ticks, stack, arena, outputs in reports]
        if not task.profile or not runs:
            return runs
        return [replace(runs[0], steps=self._steps(task, runs[0].instructions)), *runs[1:]]

    def _steps(self, task: Task, whole: int) -> list[int]:
        """Instructions of each step: what a run takes with the calls up to it, less that of a run without it.

        Calls left out are as many instructions that do nothing, so the difference is what the kernel itself takes. The
        entry has no branches: its own instructions ahead of a call belong to that step, and the rest to the last.
        """
        encoding = encoding_of(task.board.core)
        calls = calls_of(task.firmware, task.entry, encoding)
        totals = []
        for done in range(len(calls)):
            data = without_calls(task.firmware, task.entry, calls[done:], encoding)
            ((ticks, *_),) = self._reports(task, data, task.frames[:1])
            totals.append(round(ticks * task.board.ticks))
        own = [after - before for before, after in pairwise([*totals, whole])]
        steps = [kernel + call.instructions for kernel, call in zip(own, calls, strict=True)]
        return [*steps[:-1], whole - sum(steps[:-1])] if steps else []

    def _reports(self, task: Task, data: bytes, frames: Sequence[bytes]) -> list[tuple[int, int, int, bytes]]:
        board = task.board
        with tempfile.TemporaryDirectory(prefix="edgert-") as name:
            folder = Path(name)
            (folder / "firmware.elf").write_bytes(data)
            (folder / SEMIHOSTING[0]).write_bytes(b"".join(frames))
            (folder / FLASH).write_bytes(task.firmware.notes.get(EXTERNAL, b""))
            config = ",".join(f"arg={word}" for word in ("model", *SEMIHOSTING))
            command = [program(board), "-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none"]
            command += [
                "-icount",
                f"shift={board.icount},sleep=off",
                "-semihosting-config",
                f"enable=on,target=native,{config}",
            ]
            command += ["-bios", "none"] if board.core == "riscv32imac" else []
            try:
                done = subprocess.run(
                    [*command, "-kernel", "firmware.elf"], cwd=folder, capture_output=True, text=True, check=False,
                    timeout=SECONDS, stdin=subprocess.DEVNULL,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise EdgertError(f"QEMU did not finish {board.name} within {SECONDS} s") from None
            out = folder / SEMIHOSTING[1]
            if done.returncode or not out.is_file():
                said = " ".join(done.stderr.split())[:300] or "a fault; more stack may be needed (--stack)"
                raise EdgertError(f"the firmware failed on {board.name} in QEMU ({done.returncode}): {said}")
            return parse_reports(out.read_bytes(), replace(task, frames=frames))
