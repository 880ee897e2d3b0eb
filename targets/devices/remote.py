"""Devices that commands are sent to: `ssh://user@host:port/folder`, `adb://serial/folder`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from targets.errors import EdgertError, UsageError

LIMIT = 1800  # seconds without a byte, after which a command is taken to hang
SCHEMES = {"ssh": "targets.devices.ssh", "adb": "targets.devices.adb"}  # each module has open(address)
_HOST = r"\[[0-9a-fA-F:.]+\]|[^:/@]*"
_PARTS = re.compile(rf"(?P<scheme>[a-z]+)://(?:(?P<user>[^@/]+)@)?(?P<host>{_HOST})(?::(?P<port>\d+))?(?P<path>/.*)?")


class ConnectionBroke(EdgertError):
    """The device went away in the middle."""


@dataclass(frozen=True)
class Address:
    """A device's URI in parts. folder: where artifacts lie; relative to the user's home where the URI has /~/ first."""

    uri: str
    scheme: str
    user: str | None
    host: str
    port: int | None
    folder: str


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code, its output, the text of its error output."""

    code: int
    output: bytes
    error: str


class Remote(Protocol):
    """An open connection. Words of a command arrive as they are, whatever they hold."""

    def run(self, words: Sequence[str], given: Iterable[bytes] = ()) -> Done:
        """Run a program with `given` as its input. Raises ConnectionBroke."""

    def close(self) -> None:
        """End the connection."""


def is_remote(uri: str) -> bool:
    """Whether the URI is one of these."""
    return uri.partition("://")[0] in SCHEMES and "://" in uri


def parse_address(uri: str) -> Address:
    """The parts of a URI. Raises UsageError for one that names no folder or host."""
    found = _PARTS.fullmatch(uri)
    if found is None or found["scheme"] not in SCHEMES:
        raise UsageError(f"device {uri!r}: write it as ssh://user@host:port/folder or adb://serial/folder")
    folder = unquote(found["path"] or "").rstrip("/")
    if "\0" in folder or "\n" in folder:
        raise UsageError(f"device {uri!r}: its folder has a character that no folder has")
    if folder.startswith("/~/"):
        folder = folder[3:]
    if not folder or folder == "/~" or folder.startswith("-"):
        raise UsageError(f"device {uri!r} names no folder: write it as {found['scheme']}://.../folder")
    if found["scheme"] == "ssh" and not found["host"]:
        raise UsageError(f"device {uri!r} names no host: write it as ssh://user@host/folder")
    host, port = found["host"].strip("[]"), int(found["port"]) if found["port"] else None
    return Address(uri, found["scheme"], unquote(found["user"]) if found["user"] else None, host, port, folder)


def connect(address: Address) -> Remote:
    """An open connection. Raises UsageError or EdgertError saying why there is none."""
    remote: Remote = importlib.import_module(SCHEMES[address.scheme]).open(address)
    return remote
