"""Sources of bytes for streamed weights, through ctypes: the C runtime's source.h and throttle.h."""

from __future__ import annotations

import ctypes
import os

from edgert.errors import EdgertError
from edgert.native.library import runtime
from flashload.profile import FlashProfile


class Speed(ctypes.Structure):
    """edgert_speed."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("block", "depth", "rate"))


def opened(path: str | os.PathLike[str]) -> int:
    """The file at `path` as an edgert_source, which whoever takes it closes. Raises EdgertError."""
    function = runtime().edgert_source_file
    function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_void_p
    source = function(os.fsencode(path))
    if not source:
        raise EdgertError(f"{path}: cannot be read while the model runs")
    return int(source)


def throttled(path: str | os.PathLike[str], profile: FlashProfile) -> int:
    """The file at `path`, read no faster than the flash of `profile`: for `source` of `edgert.runner.load`."""
    speeds = [Speed(block, depth, max(1, int(rate))) for (block, depth), rate in profile.sequential.items()]
    function = runtime().edgert_source_throttled
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = ctypes.c_void_p
    source = function(opened(path), (Speed * len(speeds))(*speeds), len(speeds))
    if not source:
        raise EdgertError(f"{path}: no memory to read it with")
    return int(source)
