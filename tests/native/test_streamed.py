"""The runner within a budget, on coded weights, and with a language model: the Python runner's bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import artifact
from tests.flashload.networks import WIDTH, coded_mlp, mlp
from tests.llm import small_models, test_program
from tests.native.conftest import Run, assert_refused


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coded_mlp(tmp_path_factory.mktemp("coded"))


@pytest.mark.parametrize("budget", [None, "64M", "5M"])
@pytest.mark.parametrize("kind", ["plain", "coded"])
def test_the_bits_are_those_of_a_resident_run(
    tmp_path: Path, run: Run, coded: Path, kind: str, budget: str | None
) -> None:
    x = np.random.default_rng(5).normal(size=(3, WIDTH)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    path = mlp() if kind == "plain" else coded
    with edgert.load(mlp(), threads=1) as model:
        right = model.run({"x": x})["y"]
    weights = artifact.Artifact.open(path).spec.weights_bytes
    words = ["--dram", budget] if budget else []
    done = run(path, "--input", f"x={tmp_path}/x.npy", "--output", tmp_path, "--time", 2, *words)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), right)
    if budget:
        read = int(done.stdout.split("read ")[1].split()[0])
        assert (read > 2 * weights) == (budget == "5M")  # again in each of three runs


def test_no_budget_and_damage(tmp_path: Path, run: Run, coded: Path) -> None:
    assert_refused(run(mlp(), "--time", 1, "--dram", "2M"), 4, "needs at least")
    for path, words in ((mlp(), []), (coded, []), (coded, ["--dram", "5M"]), (mlp(), ["--dram", "5M"])):
        data = bytearray(path.read_bytes())
        data[artifact.Artifact.open(path).weights_offset + 3_000_000] ^= 1
        (tmp_path / "d.edge").write_bytes(data)
        assert_refused(run(tmp_path / "d.edge", "--time", 1, *words), 1, "")


def test_a_language_model(run: Run) -> None:
    words = ["--ids", test_program.comma(test_program.PROMPT), "--max-tokens", 20, "--threads", 1, "--ignore-end"]
    done = run(small_models.artifact(), *words, "--json")
    assert json.loads(done.stdout)["ids"] == test_program.greedy(20, 64)
