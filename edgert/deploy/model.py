"""An artifact on a device that commands are sent to, with the methods of a loaded model."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from edgert import npy
from edgert.artifact import Artifact
from edgert.deploy.deploy import put
from edgert.deploy.device import Device
from edgert.errors import EdgertError, UsageError
from edgert.interface.emulated import timed_steps
from edgert.interface.race import Timing

_SIZE = struct.Struct("<Q")
_MOST_RUNS = 100_000


class RemoteModel:
    """Each run is a process of its own there. `seconds`: what all runs took there, without the way."""

    def __init__(self, path: str, uri: str, threads: int | None = None, dram: int | str | None = None) -> None:
        """Put the artifact at `path` on the device, unless it is there already; raises as `deploy` does."""
        self.artifact = Artifact.open(path)
        self.manifest, self.threads, self.seconds = self.artifact.manifest, threads, 0.0
        if "decoder" in self.manifest:
            raise UsageError(f"{path} is a language model: `edgert deploy` it, and run the runner on the device")
        if dram == "auto":
            raise UsageError("--dram auto is for this machine: name an amount for a device")
        self._device = Device(uri)
        try:
            put(self._device, self.artifact, run=False)
        except BaseException:
            self._device.remote.close()
            raise
        self._words = [self._device.path(self.artifact.path.name)]
        self._words += ["--threads", str(threads)] if threads else []
        self._words += ["--dram", str(dram)] if dram else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End the connection; the artifact stays there."""
        self._device.remote.close()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        said = io.BytesIO(self._call(inputs, "--json"))
        found = self._outputs(said)
        self.seconds += json.loads(said.read())["run_ms"] / 1e3
        return found

    def profile(self, inputs: Mapping[str, Any], runs: int = 1) -> list[dict[str, Any]]:
        """The manifest's steps, each with its best time in `runs` runs, after one that warms up, as `ns`."""
        said = io.BytesIO(self._call(inputs, "--profile", "--time", str(runs)))
        self._outputs(said)
        return timed_steps(said.read().decode(), self.manifest["steps"])

    def time(self, inputs: Mapping[str, Any], seconds: float) -> Timing:
        """Runs there for about so long."""
        count, found = 3, {}
        for _ in range(2):
            said = io.BytesIO(self._call(inputs, "--time", str(count), "--json"))
            self._outputs(said)
            found = json.loads(said.read().splitlines()[-1])
            count = int(max(3, min(_MOST_RUNS, 1e3 * seconds / max(found["median_ms"], 1e-3))))
        self.threads = int(found["threads"])
        return Timing(found["best_ms"] / 1e3, found["median_ms"] / 1e3, int(found["runs"]))

    def _call(self, inputs: Mapping[str, Any], *words: str) -> bytes:
        names = [port["name"] for port in self.manifest["inputs"]]
        if missing := [name for name in names if name not in inputs]:
            raise UsageError(f"missing input {missing[0]!r}")
        files = [npy.to_bytes(np.asarray(inputs[name])) for name in names]
        given = (part for file in files for part in (_SIZE.pack(len(file)), file))
        return self._device.call(*self._words, "--stdio", *words, given=given)

    def _outputs(self, said: io.BytesIO) -> dict[str, np.ndarray]:
        found = {}
        for port in self.manifest["outputs"]:
            head = said.read(_SIZE.size)
            size = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else -1
            if not 0 <= size <= port["bytes"] + (1 << 20):
                raise EdgertError(f"the device's answer has no output {port['name']!r}")
            what = f"output {port['name']!r}"
            found[port["name"]] = npy.restored(npy.from_bytes(said.read(size), what), port["dtype"])
        return found
