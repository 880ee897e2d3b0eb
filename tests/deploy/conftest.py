"""A device behind ssh: this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgert import artifact
from tests.deploy.sshd import PROGRAM, Proxy, Sshd
from tests.edgert import fake_artifact as fake
from tests.edgert.fake_fixtures import fake_code

__all__ = ["fake_code"]

SEGMENT = 1 << 18
SEGMENTS = 8


def write(path: Path, code: Path, changed: int | None = None, **changes: object) -> Path:
    """An artifact of 2 MiB of weights in 8 segments; `changed`: the segment that has other bytes than usual."""
    weights = bytearray(fake.make_weights(SEGMENT * SEGMENTS))
    if changed is not None:
        weights[changed * SEGMENT + 100] ^= 1
    sizes = [{"offset": at, "size": SEGMENT, "residency": "resident"} for at in range(0, len(weights), SEGMENT)]
    inputs = fake.make_inputs(8)
    manifest = fake.make_manifest(len(weights), segments=sizes, **changes)
    artifact.write(path, manifest, code.read_bytes(), bytes(weights), inputs, fake.expected(inputs))
    return path


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if PROGRAM is None:
        pytest.skip("no sshd (apt: openssh-server)")
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def home(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user whom sshd knows, with the caches of the one who runs the tests."""
    from compiler.codegen.cache import cache_dir

    monkeypatch.setenv("EDGERT_CACHE", str(cache_dir()))
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return sshd.home


@pytest.fixture
def uri(sshd: Sshd, home: Path, tmp_path: Path) -> str:
    """A device with an empty folder, whose name needs quoting."""
    return f"ssh://127.0.0.1:{sshd.port}{tmp_path}/on%20the%20device%27s"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """That folder."""
    return tmp_path / "on the device's"


@pytest.fixture
def proxy(sshd: Sshd, home: Path) -> Iterator[Proxy]:
    made = Proxy(sshd.port)
    sshd.know(made.port)
    yield made
    made.close()


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return fake.make_inputs(20)
