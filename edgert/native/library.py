"""The C runtime through ctypes: libedgert.so, built when edgert was installed."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from edgert.errors import EdgertError

VERSION = 2  # EDGERT_RUNTIME_VERSION of runtime.h
MOST_THREADS = 256


@cache
def runtime() -> ctypes.CDLL:
    """The loaded library with its functions' types declared. Raises EdgertError when it is missing or another's."""
    path = Path(__file__).with_name("libedgert.so")
    try:
        library = ctypes.CDLL(str(path))
        version = library.edgert_rt_version()
    except (OSError, AttributeError) as error:
        reason = "is missing" if not path.exists() else f"cannot be loaded ({error})"
        raise EdgertError(f"the runtime library {path.name} {reason}: install edgert again") from None
    if version != VERSION:
        raise EdgertError(f"{path.name} is version {version}, this edgert needs {VERSION}: install edgert again")
    pointer, int32, int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.edgert_rt_get.argtypes, library.edgert_rt_get.restype = [int32], pointer
    library.edgert_rt_run.argtypes = [pointer, pointer, pointer, pointer, pointer, pointer, pointer, int64]
    library.edgert_rt_run.restype = int32
    library.edgert_sha256.argtypes, library.edgert_sha256.restype = [pointer, int64, pointer], None
    library.edgert_sha256_pair.argtypes, library.edgert_sha256_pair.restype = [pointer] * 3, None
    library.edgert_rt_run_streamed.argtypes = [pointer] * 8 + [int64]
    library.edgert_rt_run_streamed.restype = int32
    return library
