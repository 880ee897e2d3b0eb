"""Programs of --emit exe inside a budget: the bits of a resident run, one line for what goes wrong, exit codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import exe
from tests.flashload.networks import WIDTH, mlp

BUDGET = "5M"  # of 6.8 MB of weights


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exe.build(mlp(), tmp_path_factory.mktemp("program") / "mlp")


def _run(program: Path, folder: Path, *words: str) -> tuple[int, str, str]:
    given = np.random.default_rng(5).normal(size=(9, WIDTH)).astype(np.float32)
    np.save(folder / "x.npy", given)
    command = [program, "--input", f"x={folder / 'x.npy'}", "--output", folder / "out", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_the_bits_are_those_of_a_resident_run(program: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code, said, _ = _run(program, tmp_path, "--dram", BUDGET, "--time", "5")
    assert code == 0
    assert "streaming: " in said
    with edgert.load(mlp()) as model:
        wanted = model.run({"x": np.load(tmp_path / "x.npy")})["y"]
        read = int(said.split(" read ")[1].split()[0])
        assert read > model.artifact.spec.weights_bytes  # not all of it stayed
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), wanted)


@pytest.mark.parametrize(
    ("words", "expected", "message"),
    [
        (["--dram", "1M"], 4, "needs at least "),
        (["--dram", "5 MB"], 2, "write an amount of memory"),
        (["--dram"], 2, "needs a value"),
    ],
)
def test_budgets_that_cannot_be(program: Path, tmp_path: Path, words: list[str], expected: int, message: str) -> None:
    code, said, error = _run(program, tmp_path, *words)
    assert (code, said) == (expected, "")
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_program_says_so(program: Path, tmp_path: Path) -> None:
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    broken = tmp_path / "broken"
    broken.write_bytes(data)
    broken.chmod(0o755)
    code, _, error = _run(broken, tmp_path, "--dram", BUDGET)
    assert code == 1
    assert "of the weights, at byte " in error
    assert error.count("\n") == 1
