"""run, verify, bench, devices and targets on an artifact that needs no compiler."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Edgert, assert_one_line
from tests.edgert import fake_artifact


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, np.ndarray]:
    arrays = fake_artifact.make_inputs(10, seed=3)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return arrays


def sources(folder: Path) -> list[str]:
    return ["--input", f"x={folder}/x.npy", "--input", f"y={folder}/y.npy"]


def test_run_writes_outputs(edgert: Edgert, fake: Path, tmp_path: Path, inputs: dict[str, np.ndarray]) -> None:
    result = edgert("run", fake, *sources(tmp_path), "--output", tmp_path / "new" / "out", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    want = fake_artifact.expected(inputs)
    for output in report["outputs"]:
        array = np.load(output["file"])
        np.testing.assert_array_equal(array, want[output["name"]])
        assert output["shape"] == list(array.shape)
        assert output["max"] == array.max()
        assert output["top"][0] == {"index": int(array.argmax()), "value": float(array.max()), "label": None}
        np.testing.assert_array_equal(np.float32(output["values"]), array)
    assert len(list((tmp_path / "new" / "out").iterdir())) == 2


def test_run_prints_text(edgert: Edgert, fake: Path, tmp_path: Path, inputs: dict[str, np.ndarray]) -> None:
    result = edgert("run", fake, *sources(tmp_path), "--profile", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert "z  float32 10x4" in result.stdout
    assert "Compress" in result.stdout


def test_run_takes_numbers_and_zeros(edgert: Edgert, fake: Path) -> None:
    result = edgert("run", fake, "--input", "x=zeros", "--input", "y=2.5", "--json")
    assert result.exit_code == 0, result.stderr
    z, _ = json.loads(result.stdout)["outputs"]
    assert z["min"] == z["max"] == 2.5
    assert z["shape"] == [1024, 4]
    assert z["values"] is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["no --input for x (float32[..1024,4]), y"]),
        (["--input", "x"], ["NAME=FILE"]),
        (["--input", "w=zeros"], ["no input 'w'", "x, y"]),
        (["--input", "x=zeros", "--input", "x=zeros"], ["'x' is given twice"]),
        (["--input", "x=absent.npy"], ["'x': no file 'absent.npy'"]),
        (["--input", "x=zeros", "--input", "y=zeros", "--device", "fax://1"], ["'fax://1'", "local"]),
        (["--input", "x=zeros", "--input", "y=zeros", "--shape", "x=1x4"], ["is an artifact"]),
        (["--input", "x=zeros", "--input", "y=zeros", "--threads", "0"], ["--threads"]),
        (["--shape", "x=1xa"], ["x=1x3x224x224"]),
        (["--dim", "seq=9..3"], ["in order"]),
    ],
)
def test_wrong_inputs_are_refused(edgert: Edgert, fake: Path, args: list[str], words: list[str]) -> None:
    assert_one_line(edgert("run", fake, *args), 2, *words)


def test_a_wrong_shape_is_refused(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((10, 5), np.float32))
    np.save(tmp_path / "y.npy", np.zeros((10, 4), np.float32))
    assert_one_line(edgert("run", fake, *sources(tmp_path), "--output", tmp_path / "out"), 2, "x")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"garbage", b"\x93NUMPY\x01\x00\x10\x00{'descr': "])
def test_a_broken_npy_is_refused(edgert: Edgert, fake: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    assert_one_line(edgert("run", fake, "--input", f"x={tmp_path}/x.npy"), 1, "x.npy")


def test_an_unknown_kind_of_file_is_refused(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    (tmp_path / "x.xyz").write_bytes(b"x")
    assert_one_line(edgert("run", fake, "--input", f"x={tmp_path}/x.xyz"), 2, ".npy, .png")


def test_an_output_folder_that_is_a_file(
    edgert: Edgert, fake: Path, tmp_path: Path, inputs: dict[str, np.ndarray]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert_one_line(edgert("run", fake, *sources(tmp_path), "--output", tmp_path / "file" / "out"), 1, "file")


def test_verify_passes(edgert: Edgert, fake: Path) -> None:
    result = edgert("verify", fake, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["passed"]
    assert [output["error"] for output in report["outputs"]] == [0, 0]


def test_verify_fails_on_wrong_answers(edgert: Edgert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fake_artifact.expected
    monkeypatch.setattr(fake_artifact, "expected", lambda inputs: {k: v + 1 for k, v in right(inputs).items()})
    fake_artifact.make_artifact(tmp_path / "wrong.edge", fake_artifact.compile_code(tmp_path))
    result = edgert("verify", tmp_path / "wrong.edge")
    assert result.exit_code == 1
    assert "WRONG  z" in result.stdout
    assert "failed" in result.stdout


def test_verify_wants_an_artifact(edgert: Edgert, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    assert_one_line(edgert("verify", tmp_path / "m.onnx"), 2, "compile it first")


def test_bench_times_it(edgert: Edgert, fake: Path) -> None:
    result = edgert("bench", fake, "--seconds", 0.02, "--threads", 1, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    (ours,) = report["runtimes"]
    assert (ours["name"], ours["ratio"], report["threads"]) == ("edgert", 1, 1)
    assert 0 < ours["best_ms"] <= ours["median_ms"]
    assert ours["runs"] >= 10


def test_bench_against_needs_the_model(edgert: Edgert, fake: Path, tmp_path: Path) -> None:
    assert_one_line(edgert("bench", fake, "--against", "onnxruntime"), 2, "--model FILE")


@pytest.mark.parametrize(("command", "key"), [("devices", "devices"), ("targets", "targets")])
def test_lists(edgert: Edgert, command: str, key: str) -> None:
    assert json.loads(edgert(command, "--json").stdout)[key]
    assert edgert(command).exit_code == 0


def test_the_local_device_is_there(edgert: Edgert) -> None:
    assert "local" in edgert("devices").stdout
