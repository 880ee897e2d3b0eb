"""The fake model, compiled and written once per test process: for the conftest.py of whoever needs it."""

from pathlib import Path

import pytest

from tests.edgert import fake_artifact


@pytest.fixture(scope="session")
def fake_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_artifact.compile_code(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="session")
def fake_path(tmp_path_factory: pytest.TempPathFactory, fake_code: Path) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "fake.edge"
    fake_artifact.make_artifact(path, fake_code)
    return path
