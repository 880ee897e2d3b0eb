"""compile, then everything that can be done with what it makes."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.cli import models
from tests.cli.conftest import Edgert, assert_one_line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of the small model, beside the model."""
    from edgert.interface.build import build

    model = models.small(tmp_path_factory.mktemp("compiled") / "small.onnx")
    build(str(model), str(model.with_suffix(".edge")))
    return model.with_suffix(".edge")


def test_compile_reports(edgert: Edgert, tmp_path: Path) -> None:
    model = models.small(tmp_path / "small.onnx")
    result = edgert("compile", model, "-o", tmp_path / "m.edge", "--json", "--debug-dump", tmp_path / "dump")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["file_bytes"] == (tmp_path / "m.edge").stat().st_size
    assert report["name"] == "small"
    assert list((tmp_path / "dump").iterdir())
    assert {entry.name for entry in tmp_path.iterdir()} == {"small.onnx", "m.edge", "dump"}


def test_verify_and_run(edgert: Edgert, made: Path, tmp_path: Path) -> None:
    assert edgert("verify", made).exit_code == 0
    x = np.float32([[-1, 0, 1], [2, -3, 4]])
    np.save(tmp_path / "x.npy", x)
    for path in (made, made.with_suffix(".onnx")):
        result = edgert("run", path, "--input", f"x={tmp_path}/x.npy", "--output", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), np.maximum(x + np.float32([-1, 0, 1]), 0))


def test_bench_against_onnxruntime(edgert: Edgert, made: Path) -> None:
    result = edgert("bench", made, "--against", "onnxruntime", "--seconds", 0.02, "--threads", 1, "--json")
    assert result.exit_code == 0, result.stderr
    ours, theirs = json.loads(result.stdout)["runtimes"]
    assert (ours["name"], theirs["name"]) == ("edgert", "onnxruntime")
    assert theirs["ratio"] == pytest.approx(theirs["best_ms"] / ours["best_ms"])


def test_bench_refuses_another_model(edgert: Edgert, made: Path, tmp_path: Path) -> None:
    other = models.save(tmp_path / "other.onnx", [models.relu("x", "y")])
    command = ["bench", made, "--against", "onnxruntime", "--model", other]
    assert_one_line(edgert(*command), 2, "is not the model")
    assert_one_line(edgert("bench", made, "--against", "abacus"), 2, "onnxruntime, openvino")


def test_inspect_tells_the_memory(edgert: Edgert, made: Path) -> None:
    model = json.loads(edgert("inspect", made.with_suffix(".onnx"), "--json").stdout)
    artifact = json.loads(edgert("inspect", made, "--json").stdout)
    assert model["supported"]
    assert model["memory"] == artifact["memory"]


def chain(path: Path) -> Path:
    """Softmax after softmax: each needs all of the one before, so intermediates must exist."""
    from onnx import helper

    names = ["x", "a", "b", "y"]
    # along one axis and the other in turn, so that no run of them can be split into bands of rows
    nodes = [helper.make_node("Softmax", [s], [t], axis=i % 2) for i, (s, t) in enumerate(pairwise(names))]
    return models.save(path, nodes, shape=(64, 64))


def test_a_budget_is_kept_or_refused(edgert: Edgert, tmp_path: Path) -> None:
    model = chain(tmp_path / "chain.onnx")
    need = json.loads(edgert("inspect", model, "--json").stdout)["memory"]["arena_bytes"]
    assert need >= 64 * 64 * 4
    out = tmp_path / "chain.edge"
    assert_one_line(edgert("compile", model, "-o", out, "--ram", need - 1), 4, str(need), str(need - 1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["chain.onnx"]
    assert edgert("compile", model, "-o", out, "--ram", need).exit_code == 0


def test_a_free_dimension(edgert: Edgert, tmp_path: Path) -> None:
    model = models.save(tmp_path / "m.onnx", [models.relu("x", "y")], shape=("n", 3))
    out = tmp_path / "m.edge"
    result = edgert("compile", model, "-o", out, "--dim", "n=1..8")
    assert result.exit_code == 0, result.stderr
    assert edgert("verify", out).exit_code == 0
    for rows in (1, 5, 8, 9):
        np.save(tmp_path / "x.npy", -np.ones((rows, 3), np.float32))
        result = edgert("run", out, "--input", f"x={tmp_path}/x.npy", "--json")
        if rows == 9:
            assert_one_line(result, 2, "x")
        else:
            assert json.loads(result.stdout)["outputs"][0]["shape"] == [rows, 3]


@pytest.mark.slow
def test_a_program_gives_the_same_bytes(edgert: Edgert, made: Path, tmp_path: Path) -> None:
    program = tmp_path / "small"
    result = edgert("compile", made.with_suffix(".onnx"), "-o", program, "--emit", "exe")
    assert result.exit_code == 0, result.stderr
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32))
    source = f"x={tmp_path}/x.npy"
    assert edgert("run", made, "--input", source, "--output", tmp_path / "a").exit_code == 0
    (tmp_path / "b").mkdir()
    done = subprocess.run([program, "--input", source, "--output", tmp_path / "b"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "y.npy").read_bytes() == (tmp_path / "b" / "y.npy").read_bytes()
