"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from edgert.errors import EdgertError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[BinaryIO]:
    """A binary file (read and write) that takes the name `path` when the block ends well.

    It is written beside `path`, so that the last step is a rename within one file system. When the block raises, or
    the disk is full, what stood at `path` before still stands and nothing is left behind. An OSError becomes an
    EdgertError that names `path`. `mode` is the new file's, less the umask."""
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise EdgertError(f"cannot write {target}: {error.strerror or error}") from error


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` as the whole content of `path`, or leave `path` as it was."""
    with atomic_file(path) as file:
        file.write(data)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """A folder that takes the name `path`, and the place of what stood there, once `write` has filled it.

    An OSError becomes an EdgertError that names `path`."""
    import shutil  # here, as in native/code.py: they bring much along that readers do not need
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name[:50]}.", dir=path.parent) as name:
            made = Path(name) / "made"
            made.mkdir()
            write(made)
            if path.exists():
                shutil.move(path, Path(name) / "before")
            made.rename(path)
    except OSError as error:
        raise EdgertError(f"cannot write {path}: {error.strerror}") from None
