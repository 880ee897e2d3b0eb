"""Model code into this process: a shared object from memory, its entry's address, and its removal."""

from __future__ import annotations

import ctypes
import itertools
import os
from contextlib import suppress

from edgert.errors import EdgertError

_numbers = itertools.count(1)


class Code:
    """A loaded shared object. `entry` is the address of its entry symbol; valid until `close`."""

    def __init__(self, image: memoryview, symbol: str) -> None:
        """Load `image`, an ELF shared object. Raises EdgertError when the system refuses it."""
        self._library: ctypes.CDLL | None = None
        descriptor, path = _as_file(image)
        try:
            self._library = ctypes.CDLL(path)
            self.entry = ctypes.cast(getattr(self._library, symbol), ctypes.c_void_p).value
        except (OSError, AttributeError) as error:
            self.close()
            raise EdgertError(f"the model code cannot be loaded: {error}") from None
        finally:
            os.close(descriptor)
            if not path.startswith("/proc/"):
                os.unlink(path)  # mapped by now

    def close(self) -> None:
        """Unload the code. Nobody may be running it."""
        if self._library is not None:
            dlclose = ctypes.CDLL(None).dlclose
            dlclose.argtypes = [ctypes.c_void_p]
            dlclose(self._library._handle)
            self._library = None

    def __del__(self) -> None:
        with suppress(Exception):  # at interpreter exit the modules may be gone, and the system cleans up anyway
            self.close()


def _as_file(image: memoryview) -> tuple[int, str]:
    """An open descriptor holding `image`, and a path that dlopen can use."""
    descriptor = -1
    try:
        try:
            descriptor = os.memfd_create("edgert-code", os.MFD_CLOEXEC)
            path = _unique_path(descriptor)
        except (AttributeError, OSError):  # not Linux, or sealed off by policy
            import tempfile  # here, because it brings much along that nobody else needs

            descriptor, path = tempfile.mkstemp(prefix="edgert-", suffix=".so")
        rest = image
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise EdgertError(f"no place for the model code: {error.strerror}") from None
    return descriptor, path


def _unique_path(descriptor: int) -> str:
    """A path to an open file that was never used before in this process.

    The dynamic linker knows libraries by path and gives the old one for a path it has seen, while descriptors' numbers
    come back. So a running number goes into the path, its bits as `/.` and `//.`, which lead nowhere else."""
    bits = "".join("//." if bit == "1" else "/." for bit in f"{next(_numbers):b}")
    return f"/proc/self{bits}/fd/{descriptor}"
