"""Model code into this process: a shared object from memory, its entry's address, and its removal."""

from __future__ import annotations

import ctypes
import os
import tempfile
from contextlib import suppress

from edgert.errors import EdgertError


class Code:
    """A loaded shared object. `entry` is the address of its entry symbol; valid until `close`."""

    def __init__(self, image: memoryview, symbol: str) -> None:
        """Load `image`, an ELF shared object. Raises EdgertError when the system refuses it."""
        self._descriptor, path = _as_file(image)
        try:
            self._library: ctypes.CDLL | None = ctypes.CDLL(path)
            self.entry = ctypes.cast(getattr(self._library, symbol), ctypes.c_void_p).value
        except (OSError, AttributeError) as error:
            self._library = None
            os.close(self._descriptor)
            raise EdgertError(f"the model code cannot be loaded: {error}") from None
        finally:
            if not path.startswith("/proc/"):
                os.unlink(path)  # mapped by now

    def close(self) -> None:
        """Unload the code. Nobody may be running it."""
        if self._library is not None:
            dlclose = ctypes.CDLL(None).dlclose
            dlclose.argtypes = [ctypes.c_void_p]
            dlclose(self._library._handle)
            self._library = None
            os.close(self._descriptor)

    def __del__(self) -> None:
        with suppress(Exception):  # at interpreter exit the modules may be gone, and the system cleans up anyway
            self.close()


def _as_file(image: memoryview) -> tuple[int, str]:
    """An open descriptor holding `image`, and a path that dlopen can use.

    The descriptor stays open while the code is loaded: the dynamic linker knows libraries by path, so the next one at
    the same /proc/self/fd number would be taken for this one."""
    descriptor = -1
    try:
        try:
            descriptor = os.memfd_create("edgert-code", os.MFD_CLOEXEC)
            path = f"/proc/self/fd/{descriptor}"
        except (AttributeError, OSError):  # not Linux, or sealed off by policy
            descriptor, path = tempfile.mkstemp(prefix="edgert-", suffix=".so")
        rest = image
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise EdgertError(f"no place for the model code: {error.strerror}") from None
    return descriptor, path
