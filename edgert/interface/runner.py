"""Write the program that runs artifacts where no Python is."""

import hashlib
from dataclasses import dataclass

import click

from edgert import cpu
from edgert.atomic import atomic_file
from edgert.native.runner import runner
from edgert.units import format_bytes
from targets import get_target


@dataclass(frozen=True)
class Written:
    """A runner: its file, the machine it is for, its bytes and their SHA-256."""

    file: str
    machine: str
    bytes: int
    sha256: str


def write_runner(path: str, target: str = "host") -> Written:
    """Write the runner for the machine of `target` to `path`. Raises UsageError where there is none for it."""
    machine = cpu.triple_architecture(get_target(target).triple)
    program = runner(machine)
    with atomic_file(path, mode=0o777) as file:
        file.write(program)
    return Written(path, machine, len(program), hashlib.sha256(program).hexdigest())


def runner_text(written: Written) -> None:
    """One line."""
    click.echo(f"{written.file}: runner for {written.machine}, {format_bytes(written.bytes)}")
