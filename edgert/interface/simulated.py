"""A model's firmware on a simulated microcontroller, with the methods of a loaded model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgert import dtypes, npy
from edgert.artifact import Artifact
from edgert.errors import EdgertError, UsageError
from targets.boards import Board, get_board
from targets.devices.firmware import Firmware
from targets.devices.registry import core_of, simulator_for
from targets.devices.simulator import Run, Simulator, Task


class Recorded:
    """Golden inputs and outputs out of a firmware file."""

    def __init__(self, firmware: Firmware) -> None:
        self._data = firmware.notes.get(".edgert.golden", b"")

    def golden(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs and expected outputs by name; both empty where it has none."""
        found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        if self._data:
            with np.load(io.BytesIO(self._data)) as arrays:
                for key in arrays.files:
                    kind, _, name = key.partition("/")
                    found[kind == "out"][name] = arrays[key]
        return found


class SimulatedModel:
    """See the module. last: what the run before cost."""

    threads = 1

    def __init__(
        self, uri: str, firmware: Firmware, manifest: dict[str, Any], golden: Recorded | Artifact, board: Board,
        simulator: Simulator,
    ) -> None:  # fmt: skip
        """Use `open_simulated`."""
        self.uri, self.firmware, self.manifest = uri, firmware, manifest
        self.artifact, self.board, self.simulator = golden, board, simulator
        self.last: Run | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing is held."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return next(self.run_all([inputs]))

    def run_all(self, frames: list[Mapping[str, Any]], **options: bool) -> Iterator[dict[str, np.ndarray]]:
        """Outputs of each frame in turn; `last` is the cost of that one. options: those of `Task`."""
        task = Task(
            self.firmware, self.board, self.manifest["entry"], [self._bytes(frame) for frame in frames],
            sum(port["bytes"] for port in self.manifest["outputs"]), **options,
        )  # fmt: skip
        for run in self.simulator.run(task):
            self.last = run
            yield self._arrays(run.outputs)

    def profile(self, inputs: Mapping[str, Any], runs: int = 1) -> list[dict[str, Any]]:
        """Every step with its instructions. Raises UsageError where the simulator does not tell them."""
        list(self.run_all([inputs], profile=True))
        assert self.last is not None
        steps = self.manifest["steps"]
        if len(self.last.steps) != len(steps):
            raise UsageError(f"{self.simulator.name} does not tell the instructions of each step of {self.board.name}")
        return [{**step, "instructions": n} for step, n in zip(steps, self.last.steps, strict=True)]

    def _bytes(self, inputs: Mapping[str, Any]) -> bytes:
        ports = self.manifest["inputs"]
        if set(inputs) != {port["name"] for port in ports}:
            raise UsageError(f"the inputs are {[p['name'] for p in ports]}, given are {list(inputs)}")
        parts = []
        for port in ports:
            array, dtype = np.asarray(inputs[port["name"]]), dtypes.array_dtype(port["dtype"])
            if list(array.shape) != port["shape"] or array.dtype != dtype:
                raise UsageError(
                    f"input {port['name']!r} is {array.dtype} {list(array.shape)}, not {dtype} {port['shape']}"
                )
            parts.append(np.ascontiguousarray(array).tobytes())
        return b"".join(parts)

    def _arrays(self, data: bytes) -> dict[str, np.ndarray]:
        found, at = {}, 0
        for port in self.manifest["outputs"]:
            part = np.frombuffer(data[at : at + port["bytes"]], dtypes.bits_dtype(port["dtype"]))
            found[port["name"]] = npy.restored(part.reshape(port["shape"]), port["dtype"])
            at += port["bytes"]
        return found


def open_simulated(path: str, uri: str) -> SimulatedModel:
    """The firmware in an artifact or an ELF file, on the device `uri`.

    Raises UsageError for a core that does not run it, or a simulator that is not there.
    """
    golden: Recorded | Artifact
    with open(path, "rb") as file:
        firmware_alone = file.read(4) == b"\x7fELF"
    if firmware_alone:
        firmware = Firmware.read(Path(path).read_bytes())
        if ".edgert.manifest" not in firmware.notes:
            raise EdgertError(f"{path}: this ELF file is no firmware made by edgert")
        manifest, golden = json.loads(firmware.notes[".edgert.manifest"]), Recorded(firmware)
    else:
        golden = Artifact.open(path)
        manifest = golden.manifest
        if "board" not in manifest:
            raise UsageError(f"{path} is compiled for {manifest['target']['name']}: {uri} runs firmware")
        firmware = Firmware.read(bytes(golden.code))
    board, core = get_board(manifest["board"]), core_of(uri)
    if board.core != core.name:
        raise UsageError(f"{path} is compiled for {board.core}, the device is {core.name}")
    return SimulatedModel(uri, firmware, manifest, golden, board, simulator_for(uri, board))
