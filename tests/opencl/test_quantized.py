"""Weights of few bits and bytes on an OpenCL device: unpacked in its kernels, nothing on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert.opencl.model import OpenClModel
from quant.quantize import quantize

RNG = np.random.default_rng(5)
SAMPLES = [{"x": RNG.standard_normal((3, 64)).astype(np.float32)} for _ in range(8)]


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 -> 96 -> 10: columns that are no multiple of a tile, and rows that are none."""
    path = tmp_path_factory.mktemp("quantized") / "m.onnx"
    rng = np.random.default_rng(6)
    sizes = {"w": (64, 96), "b": (96,), "v": (96, 10)}
    constants = [numpy_helper.from_array((rng.standard_normal(s) / 8).astype(np.float32), n) for n, s in sizes.items()]
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["1"]), node("Add", ["1", "b"], ["2"]), node("Relu", ["2"], ["3"]),
        node("MatMul", ["3", "v"], ["y"]),
    ]  # fmt: skip
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in (("x", [3, 64]), ("y", [3, 10]))]
    graph = helper.make_graph(nodes, "perceptron", *ports, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


# codes of activations are rounded from float32 sums taken in another order: a tie may fall the other way, which moves
# an answer by one step of 127 of one of some hundred terms
EXACT, ROUNDED = 1e-5, 2e-3
SCHEMES = {
    "int4": EXACT, "uint4": EXACT, "uint4-g64": EXACT, "nf4": EXACT, "codebook": EXACT, "int4x8": ROUNDED,
    "int8-dynamic": ROUNDED, "int8": ROUNDED, "int8-outlier": ROUNDED,
}  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantized_models_stay_on_the_device(perceptron: Path, scheme: str, tmp_path: Path) -> None:
    source, path = tmp_path / "q.onnx", tmp_path / "m.edge"
    quantize(perceptron, source, scheme, SAMPLES)
    edgert.compile(source, path, target="opencl")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    (wanted,) = onnxruntime.InferenceSession(source, options).run(None, SAMPLES[0])
    with edgert.load(path) as model:
        assert isinstance(model, OpenClModel)
        (got,) = model.run(SAMPLES[0]).values()
        assert model.handovers == 0
    np.testing.assert_allclose(got, wanted, rtol=0, atol=SCHEMES[scheme] * np.ptp(wanted))
