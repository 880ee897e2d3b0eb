"""Weights and channels that say nothing, by every scheme: from the command line to the artifact's answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import edgert
from edgert.cli import main
from quant.schemes import SCHEMES
from tests.models.quantized import through_artifact, through_onnxruntime
from tests.quant.networks import model, node

pytestmark = pytest.mark.slow

# SQNR in dB that rounding leaves: 4-bit weights have 16 values, that is some 20 dB a layer before sums average it
LEAST = {
    name: 12 if scheme.weights is not None and scheme.weights.bits == 4 else 28 for name, scheme in SCHEMES.items()
}
RNG = np.random.default_rng(11)


def network() -> onnx.ModelProto:
    """Outputs y, and z which is 1.5 whatever comes in: its weights are all zero.

    Of the first convolution's 8 channels one is always 3, one always 0, one has weights of 1e-30; then a convolution
    whose weights are all zero is added.
    """
    first = RNG.standard_normal((8, 3, 3, 3)) / 5
    first[2], first[5], first[6] = 0, 0, 1e-30
    bias = RNG.standard_normal(8)
    bias[2], bias[5], bias[6] = 3, 0, 0
    weights = {
        "w1": first,
        "b1": bias,
        "w2": np.zeros((8, 8, 3, 3)),
        "b2": np.zeros(8),
        "w3": RNG.standard_normal((64, 512)) / 20,
        "b3": RNG.standard_normal(64),
        "w4": RNG.standard_normal((64, 12)) / 8,
        "w5": np.zeros((64, 12)),
        "b5": np.full(12, 1.5),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1] * 4),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", pads=[1] * 4),
        node("Relu", ["c2"], "r2"),
        node("Add", ["r1", "r2"], "a"),
        node("Flatten", ["a"], "f"),
        node("Gemm", ["f", "w3", "b3"], "g", transB=1),
        node("Relu", ["g"], "h"),
        node("MatMul", ["h", "w4"], "y"),
        node("Gemm", ["h", "w5", "b5"], "z"),
    ]
    made = model(nodes, weights, (1, 3, 8, 8))
    made.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, (1, 12)))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.onnx, and 24 samples in cal.npz of which a channel is constant."""
    where = tmp_path_factory.mktemp("edges")
    onnx.save(network(), where / "m.onnx")
    x = RNG.standard_normal((24, 3, 8, 8)).astype(np.float32)
    x[:, 1] = 0.25
    np.savez(where / "cal.npz", x=x)
    return where


@pytest.mark.parametrize("scheme", SCHEMES)
def test_right_results_from_what_says_nothing(scheme: str, folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "q.onnx"
    given = ["quantize", folder / "m.onnx", "-o", made, "--scheme", scheme, "--calibrate", folder / "cal.npz"]
    done = CliRunner().invoke(main, [*map(str, given), "--check", "--json"])
    assert done.exit_code == 0, done.output
    check = json.loads(done.stdout)["check"]
    assert check["steps"] <= 1 and check["ties"] <= 1e-3 * check["codes"]
    with np.load(folder / "cal.npz") as data:
        feeds = [{"x": row[None]} for row in data["x"]]
    want = through_onnxruntime(folder / "m.onnx", feeds, "y")
    edgert.compile(made, tmp_path / "q.edge", golden=False)
    with edgert.load(tmp_path / "q.edge", threads=1) as loaded:
        answers = [{name: array.copy() for name, array in loaded.run(feed).items()} for feed in feeds]
    got = np.concatenate([answer["y"] for answer in answers])
    assert 10 * np.log10((want**2).sum() / ((got - want) ** 2).sum()) >= LEAST[scheme]
    # 1.5 is the end of its range, or is not rounded at all; bias correction may add what float32 rounds off
    np.testing.assert_allclose(np.concatenate([answer["z"] for answer in answers]), 1.5, atol=1e-5)


def test_samples_that_are_all_zero(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "zeros.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    made = tmp_path / "q.onnx"
    given = ["quantize", folder / "m.onnx", "-o", made, "--calibrate", tmp_path / "zeros.npz"]
    done = CliRunner().invoke(main, [*map(str, given)])
    assert done.exit_code == 0, done.output
    feeds = [{"x": np.zeros((1, 3, 8, 8), np.float32)}]
    got = through_artifact(made, feeds, "y", tmp_path).outputs
    want = through_onnxruntime(folder / "m.onnx", feeds, "y")
    assert np.abs(got - want).max() <= 0.02 * np.abs(want).max()
    assert np.abs(got - through_onnxruntime(made, feeds, "y")).max() <= 1e-6 * np.abs(want).max()
