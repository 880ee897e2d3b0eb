"""Write the program that runs artifacts where no Python is."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import click

from edgert import cpu
from edgert.atomic import atomic_file, write_atomic
from edgert.errors import EdgertError
from edgert.native.runner import HEADER, library, runner
from edgert.units import format_bytes
from targets import get_target

LIBRARY = "libedgert-run.so"


@dataclass(frozen=True)
class Written:
    """A runner: its file, the machine it is for, its bytes and their SHA-256."""

    file: str
    machine: str
    bytes: int
    sha256: str


def write_runner(path: str, target: str = "host", emit: str = "exe") -> Written:
    """Write the runner for the machine of `target` to `path`; emit: `lib` for the library for applications and its
    header, in the folder `path`. Raises UsageError where there is none for that machine."""
    machine = cpu.triple_architecture(get_target(target).triple)
    made, file = (library(machine), Path(path) / LIBRARY) if emit == "lib" else (runner(machine), Path(path))
    if emit == "lib":
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgertError(f"cannot make the folder {path}: {error.strerror}") from None
        write_atomic(file.parent / HEADER.name, HEADER.read_bytes())
    with atomic_file(file, mode=0o777) as opened:
        opened.write(made)
    return Written(str(file), machine, len(made), hashlib.sha256(made).hexdigest())


def runner_text(written: Written) -> None:
    """One line."""
    click.echo(f"{written.file}: runner for {written.machine}, {format_bytes(written.bytes)}")
