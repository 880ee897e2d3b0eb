"""A loaded model whose kernels run on an OpenCL device."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from edgert import dtypes
from edgert.artifact import Artifact
from edgert.atomic import write_atomic
from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.manifest import Slot, Tensor
from edgert.opencl.device import Device, number_of
from edgert.runner import Model, _Program


class OpenClModel(Model):
    """Arena, inputs, outputs and weights are on the device; steps it has no kernel for run on the CPU."""

    def __init__(self, program: _Program, uri: str) -> None:
        """Use `load`. Raises UsageError where there is no such device, DoesNotFit for too little memory on it."""
        self._program, self._weights, self._arena = program, None, None
        self._lock = threading.Lock()
        self._uri, spec = uri, program.spec
        assert spec.device is not None
        self._code = spec.device
        self._device: Device | None = Device(number_of(uri))
        path = program.artifact.path
        try:
            self._build(program.artifact)
            self._device.prepare(
                self._code.launches, len(spec.steps), self._code.bytes, program.weights_at, spec.weights_bytes
            )
        except (DoesNotFit, EdgertError) as error:
            self._device.close()
            raise type(error)(f"{path}: {error}") from None
        ports = (*spec.inputs, *spec.outputs)
        self._io_at = (ctypes.c_int64 * max(1, len(ports)))(*self._code.io_at)
        self._io_bytes = (ctypes.c_int64 * max(1, len(ports)))(*(_full(port) for port in ports))

    def _build(self, artifact: Artifact) -> None:
        """Builds the kernels, from the binary that an earlier model on this device left beside the artifact."""
        assert self._device is not None
        source = bytes(artifact.member(self._code.member))
        self._stamp = hashlib.sha256(source).digest()  # before the binary, so that it is never taken for other kernels
        self._kept = Path(f"{artifact.path}.{self._device.digest[:12]}.clbin")
        binary = b""
        with suppress(OSError):
            binary = self._kept.read_bytes()
        kept = binary.removeprefix(self._stamp) if binary.startswith(self._stamp) else None
        self._new = self._device.build(source, kept)

    def _keep(self) -> None:
        """Leaves the binary beside the artifact; after a run, as drivers compile some of it at the first launch."""
        assert self._device is not None
        self._new = False
        with suppress(OSError, EdgertError):  # a folder that cannot be written costs time at the next load
            if made := self._device.binary():
                write_atomic(self._kept, self._stamp + made)

    @property
    def _closed(self) -> bool:
        return self._device is None

    def _execute(self, io: Any, dims: Any, counts: Any) -> tuple[int, str]:
        program, spec = self._program, self._program.spec
        assert self._device is not None
        for i, tensor in enumerate(spec.inputs):
            if not tensor.static:
                shape = (dims[axis.slot] if isinstance(axis, Slot) else axis for axis in tensor.shape)
                self._io_bytes[i] = prod(shape) * dtypes.item_size(tensor.dtype)
        failed = self._device.run(
            program.pool, program.code.entry, io, self._io_at, self._io_bytes, len(spec.inputs), len(spec.outputs),
            dims, counts,
        )  # fmt: skip
        if self._new and not failed:
            self._keep()
        reason = self._device.error if failed else ""
        return failed, reason and f"{self._device.info.name}: {reason}"

    @property
    def handovers(self) -> int:
        """Times so far that the CPU took over between kernels of the device."""
        return 0 if self._device is None else self._device.counts()[1]

    @property
    def launches(self) -> int:
        """Kernels launched so far."""
        return 0 if self._device is None else self._device.counts()[0]

    @property
    def device_bytes(self) -> int:
        """Bytes on the device: the planned arena with inputs and outputs behind it, and the weights."""
        return self._code.bytes + self._program.spec.weights_bytes

    def clone(self) -> Model:
        """Another session on the same device, with memory of its own there."""
        if self._device is None:
            raise UsageError("the model is closed")
        return OpenClModel(self._program, self._uri)

    def close(self) -> None:
        """Give the device's memory back, waiting for a run under way."""
        with self._lock:
            if self._device is not None:
                self._device.close()
                self._device = None


def _full(tensor: Tensor) -> int:
    return prod(tensor.max_shape) * dtypes.item_size(tensor.dtype)
