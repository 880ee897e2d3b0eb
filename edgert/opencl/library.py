"""Where OpenCL is on this machine."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from edgert.native.library import runtime

VARIABLE = "EDGERT_OPENCL"  # the path of another library
NAMES = ("libOpenCL.so.1", "libOpenCL.so", "/vendor/lib64/libOpenCL.so", "/system/vendor/lib64/libOpenCL.so")


@cache
def library() -> tuple[str, int]:
    """The name of the first OpenCL library here that knows a device, and how many; ("", 0) where none does.

    Looks at $EDGERT_OPENCL, the system's and Android's libraries, and the one that pyopencl's wheel brings (with PoCL,
    a device on the CPU, when it was installed as pyopencl[pocl]).
    """
    given = os.environ.get(VARIABLE)
    for name in [given] if given else [*NAMES, *_of_wheel()]:
        found = _count(name)
        if found > 0:
            return name, found
    return "", 0


def _count(name: str) -> int:
    function = runtime().edgert_cl_count
    function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_int32
    return function(os.fsencode(name))


def _of_wheel() -> list[str]:
    spec = importlib.util.find_spec("pyopencl")
    if spec is None or spec.origin is None:
        return []
    home = Path(spec.origin).parent
    os.environ.setdefault("PYOPENCL_HOME", str(home))  # where the wheel's library looks for drivers
    with suppress(OSError):
        for driver in (home / ".libs").glob("libpocl*.so*"):
            ctypes.CDLL(str(driver))  # which it names without a folder: found when it is there already
    return [str(path) for path in sorted((home / ".libs").glob("libOpenCL*.so*"))]
