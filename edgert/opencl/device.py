"""An OpenCL device through the C runtime (edgert/native/opencl.h)."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.manifest_device import Launch
from edgert.native.library import runtime
from edgert.opencl.library import VARIABLE, library
from edgert.units import format_bytes

SCHEME = "opencl://"


class _Info(ctypes.Structure):
    """edgert_cl_info."""

    _fields_ = (
        *((name, ctypes.c_char * 128) for name in ("name", "version", "driver")),
        *((name, ctypes.c_int64) for name in ("memory", "most", "workgroup", "unified")),
    )


class _Launch(ctypes.Structure):
    """edgert_cl_launch."""

    _fields_ = (
        ("step", ctypes.c_int64), ("kernel", ctypes.c_char_p),
        *((name, ctypes.c_int64) for name in ("workgroup", "dims", "first", "buffers")),
    )  # fmt: skip


class _Place(ctypes.Structure):
    """edgert_cl_place."""

    _fields_ = (("memory", ctypes.c_int64), ("at", ctypes.c_int64))


@cache
def _functions() -> dict[str, Callable[..., Any]]:
    """The functions of opencl.h, by their names without the prefix."""
    pointer, number, long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    kinds: dict[str, tuple[Any, list[Any]]] = {
        "open": (pointer, [ctypes.c_char_p, number]),
        "close": (None, [pointer]),
        "error": (ctypes.c_char_p, [pointer]),
        "describe": (number, [pointer, pointer]),
        "build": (number, [pointer, ctypes.c_char_p, long, ctypes.c_char_p, long]),
        "binary": (long, [pointer, pointer, long]),
        "prepare": (number, [pointer, pointer, long, pointer, long, long, pointer, long]),
        "run": (number, [*[pointer] * 6, long, long, pointer, pointer]),
        "counts": (None, [pointer, pointer, pointer]),
    }
    found = {}
    for name, (result, arguments) in kinds.items():
        found[name] = getattr(runtime(), f"edgert_cl_{name}")
        found[name].restype, found[name].argtypes = result, arguments
    return found


@dataclass(frozen=True)
class DeviceInfo:
    """What a device says of itself; bytes of all its memory and of the largest buffer."""

    name: str
    version: str
    driver: str
    memory_bytes: int
    most_bytes: int


def number_of(uri: str) -> int:
    """The device's number in a URI `opencl://N`. Raises UsageError."""
    number = uri.removeprefix(SCHEME)
    if not number.isdecimal() or len(number) > 4:
        raise UsageError(f"device {uri!r}: give the number of an OpenCL device, as {SCHEME}0")
    return int(number)


def device_count() -> int:
    """How many OpenCL devices there are here."""
    return library()[1]


class Device:
    """An open device, with at most one model on it. One call at a time."""

    def __init__(self, number: int) -> None:
        """Raises UsageError where there is no such device."""
        library_name, count = library()
        if number >= count:
            there = f"there are {SCHEME}0 to {SCHEME}{count - 1}" if count else (
                f"no OpenCL library with a device is here; install the device's driver, or pyopencl[pocl], or name a "
                f"library in {VARIABLE}"
            )  # fmt: skip
            raise UsageError(f"no device {SCHEME}{number}: {there}")
        self._functions, self._at = _functions(), 0
        self._kept: tuple[object, ...] = ()  # what the C side was given and goes on reading
        self._at = self._functions["open"](library_name.encode(), number)
        if not self._at:
            raise EdgertError("no memory for an OpenCL device")
        if self.error:
            reason = self.error
            self.close()
            raise EdgertError(f"{SCHEME}{number}: {reason}")
        info = _Info()
        self._functions["describe"](self._at, ctypes.byref(info))
        name, version, driver = (
            bytes(getattr(info, key)).decode(errors="replace").strip() for key in ("name", "version", "driver")
        )
        self.info = DeviceInfo(name, version, driver, info.memory, info.most)

    @property
    def error(self) -> str:
        """What went wrong last; empty when nothing did."""
        return " ".join(self._functions["error"](self._at).decode(errors="replace").split())

    @property
    def digest(self) -> str:
        """Of the device and its driver: a built program is for just these."""
        return hashlib.sha256("\0".join((self.info.name, self.info.version, self.info.driver)).encode()).hexdigest()

    def build(self, source: bytes, binary: bytes | None) -> bool:
        """Builds the kernels, from `binary` where the driver takes it; else from source: whether that was needed.

        Raises EdgertError with the driver's words.
        """
        if binary and not self._build(b"", binary):
            return False
        if self._build(source, b""):
            raise EdgertError(self.error)
        return True

    def binary(self) -> bytes:
        """The built kernels, as the driver takes them again; empty where it gives none."""
        size = self._functions["binary"](self._at, None, 0)
        made = ctypes.create_string_buffer(max(1, size))
        self._functions["binary"](self._at, made, size)
        return made.raw[:size]

    def _build(self, source: bytes, binary: bytes) -> int:
        return self._functions["build"](self._at, source, len(source), binary, len(binary))

    def prepare(self, launches: Sequence[Launch], steps: int, arena_bytes: int, weights_at: int, weights: int) -> None:
        """Allocates `arena_bytes` and `weights` bytes on the device, and takes the weights from address `weights_at`.

        Raises DoesNotFit with what is needed and there, EdgertError for what the driver refuses.
        """
        for what, need in (("arena with inputs and outputs", arena_bytes), ("weights", weights)):
            if need > self.info.most_bytes:
                have = format_bytes(self.info.most_bytes)
                raise DoesNotFit(f"the {what} needs {format_bytes(need)}, a buffer of {self.info.name} holds {have}")
        if (need := arena_bytes + weights) > self.info.memory_bytes:
            have = format_bytes(self.info.memory_bytes)
            raise DoesNotFit(f"arena and weights need {format_bytes(need)}, {self.info.name} has {have}")
        made, first = (_Launch * max(1, len(launches)))(), 0
        for entry, launch in zip(made, launches, strict=False):
            entry.step, entry.kernel, entry.workgroup = launch.step, launch.kernel.encode(), launch.workgroup
            entry.dims, entry.first, entry.buffers = launch.dims, first, len(launch.places)
            first += len(launch.places)
        places = (_Place * max(1, first))(*(_Place(*place) for launch in launches for place in launch.places))
        self._kept = made, places
        if self._functions["prepare"](
            self._at, made, len(launches), places, steps, arena_bytes, weights_at, weights
        ):  # fmt: skip
            raise EdgertError(f"{self.info.name}: {self.error}")

    def run(self, *arguments: object) -> int:
        """edgert_cl_run."""
        return self._functions["run"](self._at, *arguments)

    def counts(self) -> tuple[int, int]:
        """Kernels launched, and times that the CPU took over between kernels, since the model was prepared."""
        launched, mapped = ctypes.c_int64(), ctypes.c_int64()
        self._functions["counts"](self._at, ctypes.byref(launched), ctypes.byref(mapped))
        return launched.value, mapped.value

    def close(self) -> None:
        """Gives everything on the device back."""
        if self._at:
            self._functions["close"](self._at)
            self._at = 0

    def __del__(self) -> None:
        with suppress(Exception):  # at interpreter exit the modules may be gone
            self.close()
