"""Texts out of files that a command was given."""

import sys
from pathlib import Path

from edgert.errors import EdgertError


def read_text(path: str) -> str:
    """The file at `path` (`-`: standard input), which has to be UTF-8. Raises EdgertError where it cannot be read."""
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise EdgertError(f"{path}: {error.strerror}") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EdgertError(f"{path} is not UTF-8: the byte at {error.start}") from None
