"""The runner for this machine, and the artifact whose code needs no model compiler."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgert.native.runner import runner
from tests.edgert.fake_fixtures import fake_code, fake_path

__all__ = ["Run", "assert_refused", "fake_code", "fake_path", "program", "run"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runner") / "edgert-run"
    path.write_bytes(runner(platform.machine()))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def run(program: Path) -> Run:
    """`run(artifact, "--verify", ...)`: the finished process, with texts."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [program, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return call


def assert_refused(done: subprocess.CompletedProcess[str], code: int, message: str = "") -> None:
    """It failed with this exit code and one line that has the message."""
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), (done.returncode, done.stderr)
    assert done.stderr.startswith("edgert-run: ") and message in done.stderr
