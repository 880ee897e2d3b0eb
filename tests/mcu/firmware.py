"""Functions of the firmware's own sources, built for this machine."""

from __future__ import annotations

import ctypes
from pathlib import Path

import targets
from edgert.native.build import zig_cc

Function = ctypes._CFuncPtr


def firmware_function(folder: Path, source: str, name: str, *flags: str) -> Function:
    """`name` of targets/firmware/`source`, as a shared library in `folder`; its types are the caller's to declare."""
    library, file = folder / f"{Path(source).stem}.so", Path(targets.__file__).parent / "firmware" / source
    zig_cc(["-shared", "-fPIC", "-O1", "-ffreestanding", *flags, "-o", str(library), str(file)])
    return getattr(ctypes.CDLL(str(library)), name)
