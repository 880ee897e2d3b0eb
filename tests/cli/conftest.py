"""A way to call the command line in process, and an artifact that needs no compiler."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgert.cli import main
from tests.edgert import fake_artifact

Edgert = Callable[..., Result]


@pytest.fixture
def edgert() -> Edgert:
    """`edgert("run", path, ...)`: the result with exit_code, stdout, stderr."""

    def call(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args])

    return call


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of tests/edgert/fake_model.c: inputs x and y, outputs z = x * factors + y and its positives."""
    folder = tmp_path_factory.mktemp("fake")
    path = folder / "fake.edge"
    fake_artifact.make_artifact(path, fake_artifact.compile_code(folder))
    return path


def assert_one_line(result: Result, exit_code: int, *words: str) -> None:
    """The command failed as it should: one line on stderr that has all `words`, this exit code, no traceback."""
    assert result.exit_code == exit_code, (result.exit_code, result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("edgert: ")
    assert "internal error" not in lines[0]
    for word in words:
        assert word in lines[0], (word, lines[0])
