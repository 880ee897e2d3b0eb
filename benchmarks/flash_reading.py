"""How fast the readers bring in weights when nobody computes: with computing alone, what a plan predicts from."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from edgert.artifact import Artifact
from edgert.native.library import runtime
from edgert.native.streams import Stream

SECONDS = 0.6
RANGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
NOTHING = RANGE(lambda with_, begin, end: None)


class Reading:
    """A stream of an artifact whose steps do nothing, as a program with such a plan has it."""

    def __init__(self, path: Path, pinned: int, ring: int, block: int, threads: int) -> None:
        artifact = Artifact.open(path)
        assert artifact.spec.stream is not None
        settings = {
            "start": artifact.weights_offset, "pinned_bytes": pinned, "ring_bytes": ring, "block_bytes": block,
            "threads": threads, "timeout_ms": 30_000,
        }  # fmt: skip
        self.steps = {v.step: v.units for v in artifact.spec.stream.visits}
        self.stream = Stream(path, artifact.spec.stream, [digest for _, _, digest in artifact.spec.segments], settings)
        self.library, self.context = runtime(), ctypes.create_string_buffer(256)
        self.library.edgert_stream_begin.argtypes = [ctypes.c_void_p] * 2
        self.library.edgert_stream_step.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, RANGE, ctypes.c_void_p, ctypes.c_int64,
        ]  # fmt: skip
        self._pass()

    def speed(self) -> float:
        """Bytes a second; 0 where everything stays in memory."""
        before, start = self.stream.figures()["read_bytes"], time.perf_counter()
        while time.perf_counter() < start + SECONDS:
            self._pass()
        return (self.stream.figures()["read_bytes"] - before) / (time.perf_counter() - start)

    def close(self) -> None:
        """Give the memory back."""
        self.stream.close()

    def _pass(self) -> None:
        self.library.edgert_stream_begin(self.stream.handle, self.context)
        for step, units in self.steps.items():
            if self.library.edgert_stream_step(self.stream.handle, self.context, step, NOTHING, None, units):
                raise OSError(self.stream.error)
