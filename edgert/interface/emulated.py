"""An artifact for another processor, run by the native runner under an emulator, with the methods of a loaded model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgert import cpu, npy
from edgert.artifact import Artifact
from edgert.errors import EdgertError, UsageError
from edgert.native.runner import runner
from targets.devices.qemu_user import QemuUser

_STEP = re.compile(r" *(\d+\.\d+) us  (.*) \((.*)\)")


def timed_steps(said: str, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The manifest's steps, each with the time that a program's --profile gave for it as `ns`.

    The program's own steps where it ran code for another processor than the manifest's first.
    """
    times = [found for line in said.splitlines() if (found := _STEP.fullmatch(line))]
    if [m[2] for m in times] != [step["name"] for step in steps]:
        steps = [{"name": m[2], "op": m[3]} for m in times]
    return [{**step, "ns": round(1e3 * float(m[1]))} for step, m in zip(steps, times, strict=True)]


class EmulatedModel:
    """Each run is a process of its own. Answers are those of the device; times are the emulator's."""

    def __init__(self, path: str, uri: str, threads: int | None = None) -> None:
        """Check the artifact at `path` for the device `uri`, and lay the runner for it ready.

        Raises UsageError for an artifact of another processor, a language model, or where QEMU is not installed.
        """
        self.device, self.threads, self.artifact = QemuUser.of(uri), threads or 1, Artifact.open(path)
        self.manifest = self.artifact.manifest
        machine = cpu.triple_architecture(self.manifest["target"]["triple"])
        if machine != self.device.machine:
            raise UsageError(f"{path} is compiled for {machine}, {uri} runs programs for {self.device.machine}")
        if "device" in self.manifest:
            raise UsageError(f"{path} is for a graphics processor, which QEMU does not have")
        if "decoder" in self.manifest:
            raise UsageError(f"{path} is a language model: run it with the program of `edgert runner` under QEMU")
        if reason := self.device.missing():
            raise UsageError(reason)
        self._folder = tempfile.TemporaryDirectory(prefix="edgert-")
        self._program = Path(self._folder.name) / "edgert-run"
        self._program.write_bytes(runner(machine))
        self._program.chmod(0o700)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove the runner."""
        self._folder.cleanup()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        out = Path(self._folder.name) / "out"
        self._call(inputs, "--output", str(out))
        found = {}
        for port in self.manifest["outputs"]:
            file = out / f"{npy.file_stem(port['name'])}.npy"
            with file.open("rb") as opened:
                array = npy.read(opened, file.stat().st_size, f"output {port['name']!r}")
            found[port["name"]] = npy.restored(array, port["dtype"])
        return found

    def profile(self, inputs: Mapping[str, Any], runs: int = 1) -> list[dict[str, Any]]:
        """The manifest's steps, each with the emulator's time as `ns`. runs: one is enough to see shares."""
        return timed_steps(self._call(inputs, "--profile"), self.manifest["steps"])

    def _call(self, inputs: Mapping[str, Any], *options: str) -> str:
        arguments = [str(self.artifact.path), "--threads", str(self.threads), *options]
        for number, (name, array) in enumerate(inputs.items()):
            file = Path(self._folder.name) / f"{number}.npy"
            file.write_bytes(npy.to_bytes(np.asarray(array)))
            arguments += ["--input", f"{name}={file}"]
        code, said, error = self.device.run(str(self._program), arguments)
        if code:
            words = " ".join(error.split()).removeprefix("edgert-run: ")[:500] or f"the program ended with {code}"
            raise UsageError(words) if code == UsageError.exit_code else EdgertError(words)
        return said
