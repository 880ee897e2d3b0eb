"""Device URIs of Linux programs for another processor, under QEMU's user mode: `qemu-user://aarch64?cpu=cortex-a53`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from targets.errors import EdgertError, UsageError

SCHEME = "qemu-user://"
MACHINES = {"aarch64": "aarch64", "armv7": "arm", "riscv64": "riscv64"}  # as a triple names them -> as QEMU does
WIDEST = {"riscv64": "rv64"}  # the processor with most features, where that is not called max
LIMIT = 1800  # seconds, after which a program is taken to hang


@dataclass(frozen=True)
class QemuUser:
    """A processor by QEMU's name for it; where the URI names none, the one with every feature that QEMU knows."""

    machine: str
    cpu: str = "max"

    @staticmethod
    def of(uri: str) -> QemuUser:
        """The device of a URI. Raises UsageError, naming the machines there are."""
        machine, _, cpu = uri.removeprefix(SCHEME).partition("?cpu=")
        if machine not in MACHINES:
            known = ", ".join(SCHEME + name for name in MACHINES)
            raise UsageError(f"device {uri!r}: there is no such machine; there is {known}")
        return QemuUser(machine, cpu or WIDEST.get(machine, "max"))

    def missing(self) -> str:
        """Why it cannot be used here; empty where it can."""
        return (
            "" if self._program() else f"qemu-{MACHINES[self.machine]}-static is not installed (apt: qemu-user-static)"
        )

    def run(self, program: str, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Exit code, output and error output of a program.

        Raises UsageError where QEMU is not installed, EdgertError where the program does not end by itself.
        """
        if reason := self.missing():
            raise UsageError(reason)
        try:
            done = subprocess.run(
                [str(self._program()), "-cpu", self.cpu, program, *arguments], stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EdgertError(f"{program} did not end within {LIMIT} seconds under QEMU") from None
        if "unable to find CPU model" in done.stderr:
            raise UsageError(f"QEMU has no processor {self.cpu!r} for {self.machine}")
        if done.returncode < 0:
            raise EdgertError(f"{program} ended with signal {-done.returncode} under QEMU")
        return done.returncode, done.stdout, done.stderr

    def _program(self) -> str | None:
        names = (f"qemu-{MACHINES[self.machine]}-static", f"qemu-{MACHINES[self.machine]}")
        return next((path for name in names if (path := shutil.which(name))), None)
