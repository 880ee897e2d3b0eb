"""The runner for this machine, and the artifact whose code needs no model compiler."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgert.native.runner import runner
from tests.edgert import fake_artifact

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


@pytest.fixture(scope="session")
def fake_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_artifact.compile_code(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="session")
def fake_path(tmp_path_factory: pytest.TempPathFactory, fake_code: Path) -> Path:
    path = tmp_path_factory.mktemp("fake") / "fake.edge"
    fake_artifact.make_artifact(path, fake_code)
    return path


def assert_refused(done: subprocess.CompletedProcess[str], code: int, message: str = "") -> None:
    """It failed with this exit code and one line that has the message."""
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), (done.returncode, done.stderr)
    assert done.stderr.startswith("edgert-run: ") and message in done.stderr
