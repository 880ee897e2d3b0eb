"""A model that cannot be compiled is refused by inspect, compile and run alike, and nothing is left behind."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import helper

from tests.cli import models
from tests.cli.conftest import Edgert, assert_one_line

COMMANDS = [
    ["inspect"],
    ["compile", "-o", "out.edge"],
    ["compile", "-o", "out.exe", "--emit", "exe"],
    ["run", "--input", "x=zeros"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(edgert: Edgert, path: Path, exit_code: int, *words: str) -> None:
    before = {entry.name for entry in path.parent.iterdir()}
    for command, *options in COMMANDS:
        assert_one_line(edgert(command, path, *options), exit_code, *words)
        assert {entry.name for entry in path.parent.iterdir()} == before


def truncated(path: Path) -> None:
    content = models.small(path).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "random bytes": lambda path: path.write_bytes(random.Random(1).randbytes(10_000)),
    "text": lambda path: path.write_text("hello"),
    "truncated": truncated,
    "cycle": lambda path: models.save(path, [models.relu("b", "a"), models.relu("a", "b"), models.relu("b", "y")]),
    "dangling": lambda path: models.save(path, [models.relu("nowhere", "y")]),
    "missing external file": lambda path: models.external(path, "weights.bin"),
    "external file outside": lambda path: models.external(path, "../../x"),
    "absolute external file": lambda path: models.external(path, "/etc/hostname"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_models(edgert: Edgert, folder: Path, what: str) -> None:
    path = folder / "broken.onnx"
    BROKEN[what](path)
    refuse(edgert, path, 1)


def test_an_external_path_that_leaves_the_folder_is_named(edgert: Edgert, folder: Path) -> None:
    # The file exists and would be long enough: it is the path that is refused.
    (folder.parent / "x").write_bytes(bytes(12))
    (folder / "inner").mkdir()
    path = models.external(folder / "inner" / "m.onnx", "../x")
    assert_one_line(edgert("inspect", path), 1, "../x")


@pytest.mark.parametrize("shape", ["x=2x4", "x=2", "x=3x3", "absent=2x3"])
def test_a_wrong_shape(edgert: Edgert, folder: Path, shape: str) -> None:
    path = models.small(folder / "m.onnx")
    for command, *options in COMMANDS:
        assert_one_line(edgert(command, path, *options, "--shape", shape), 2, shape.split("=")[0])
    assert [entry.name for entry in folder.iterdir()] == ["m.onnx"]


def test_an_unknown_target(edgert: Edgert, folder: Path) -> None:
    path = models.small(folder / "m.onnx")
    for command, *options in COMMANDS[:3]:
        assert_one_line(edgert(command, path, *options, "--target", "z80"), 2, "z80", "host")


@pytest.mark.parametrize(("command", "options"), [(command[0], command[1:]) for command in COMMANDS])
def test_unsupported_nodes_come_in_one_report(edgert: Edgert, folder: Path, command: str, options: list[str]) -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], "first", domain="made.up"),
        models.relu("a", "b"),
        helper.make_node("Twiddle", ["b"], ["y"], "second", domain="made.up"),
    ]
    path = models.save(folder / "m.onnx", nodes)
    result = edgert(command, path, *options)
    assert result.exit_code == 3, result.stderr
    report = result.stdout + result.stderr
    for word in ("Frobnicate", "first", "Twiddle", "second"):
        assert word in report
    assert "internal error" not in report
    assert [entry.name for entry in folder.iterdir()] == ["m.onnx"]


def test_unsupported_nodes_as_json(edgert: Edgert, folder: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], "first", domain="made.up")]
    result = edgert("inspect", models.save(folder / "m.onnx", nodes), "--json")
    assert result.exit_code == 3
    (problem,) = json.loads(result.stdout)["problems"]
    assert (problem["node"], problem["op"], problem["domain"]) == ("first", "Frobnicate", "made.up")


def test_an_output_folder_that_is_absent(edgert: Edgert, folder: Path) -> None:
    path = models.small(folder / "m.onnx")
    assert_one_line(edgert("compile", path, "-o", folder / "absent" / "m.edge"), 1, "absent")


def test_the_model_is_never_overwritten(edgert: Edgert, folder: Path) -> None:
    path = models.small(folder / "m.onnx")
    content = path.read_bytes()
    assert_one_line(edgert("compile", path, "-o", path), 2, "the model itself")
    assert path.read_bytes() == content
