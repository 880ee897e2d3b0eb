"""Android devices through the program adb, whose shell service hands on exit codes and plain bytes (Android 7, -T)."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence

from targets.errors import EdgertError, UsageError

from .remote import LIMIT, Address, ConnectionBroke, Done

OWN = ("adb: ", "error: ")  # what adb's own words begin with


class Adb:
    """A device by its serial number; without one, the only device there is."""

    def __init__(self, address: Address, program: str) -> None:
        self._address = address
        serial = address.host if address.port is None else f"{address.host}:{address.port}"  # over a network
        self._command = [program, *(["-s", serial] if serial else [])]

    def run(self, words: Sequence[str], given: Iterable[bytes] = ()) -> Done:
        """See Remote."""
        command = [*self._command, "shell", "-T", shlex.join(words)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        found: list[tuple[bytes, bytes]] = []
        # read beside writing: a program may fail, and say so, before it has read everything
        reader = threading.Thread(target=lambda: found.append(_read(process)))
        reader.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                for part in given:
                    process.stdin.write(part)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        finally:
            if not process.stdin.closed:
                process.kill()  # what was to be sent failed on this side
            reader.join()
            timer.cancel()
        output, error = found[0][0], found[0][1].decode(errors="replace")
        if process.wait() and error.startswith(OWN):
            raise ConnectionBroke(" ".join(error.split()))
        return Done(process.returncode, output, error)

    def close(self) -> None:
        """See Remote."""


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    assert process.stdout is not None and process.stderr is not None
    errors: list[bytes] = []
    stderr = process.stderr
    beside = threading.Thread(target=lambda: errors.append(stderr.read()))
    beside.start()
    output = process.stdout.read()
    beside.join()
    return output, errors[0]


def open(address: Address) -> Adb:
    """A device that adb knows and may use."""
    program = shutil.which("adb")
    if program is None:
        raise UsageError("adb:// devices need the program adb (Android's platform-tools; apt: adb)")
    device = Adb(address, program)
    try:
        done = device.run(["true"])
    except ConnectionBroke as error:
        raise EdgertError(f"{address.uri}: {error}") from None
    if done.code:
        raise EdgertError(f"{address.uri}: adb shell does not work there: {' '.join(done.error.split())}")
    return device
