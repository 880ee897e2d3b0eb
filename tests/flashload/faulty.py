"""Sources that fail (faulty.c), built once a process."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edgert.native import sources
from edgert.native.build import NATIVE, zig_cc

EIO_AT, FLIP_AT, STALL_AT, SHORT, INTERRUPTED, AGAIN, END_AT = range(7)


@cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "faulty.so"
        flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{NATIVE}"]
        zig_cc([*flags, "-o", str(made), str(Path(__file__).with_suffix(".c"))])
        library = ctypes.CDLL(str(made))
    pointer, int64 = ctypes.c_void_p, ctypes.c_int64
    library.faulty_source.argtypes, library.faulty_source.restype = [pointer, int64, int64, int64], pointer
    for function in (library.faulty_met, library.faulty_calls):
        function.argtypes, function.restype = [pointer], int64
    return library


class Faulty:
    """Opens sources of one fault; `met` and `calls` count of the last one, while it is open."""

    def __init__(self, kind: int, at: int = -1, times: int = 1 << 40) -> None:
        self._arguments = (kind, at, times)
        self._handle = 0

    def __call__(self, path: str) -> int:
        self._handle = _library().faulty_source(sources.opened(path), *self._arguments)
        return self._handle

    @property
    def met(self) -> int:
        return int(_library().faulty_met(self._handle))

    @property
    def calls(self) -> int:
        return int(_library().faulty_calls(self._handle))


Open = Callable[[str], int]
