"""The pulled models, once a session, and a cache of a test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The ONNX file of a model, pulled at its first use (wheels come from the user's cache after that)."""
    from compiler.zoo import pull

    folder, paths = tmp_path_factory.mktemp("models"), {}

    def get(name: str) -> Path:
        if name not in paths:
            paths[name] = pull(name, folder / name)
        return paths[name]

    return get


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgert" / "pull"
