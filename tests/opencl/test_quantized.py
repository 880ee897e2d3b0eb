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


def test_convolutions_of_bytes_give_the_cpus_bits(tmp_path: Path) -> None:
    """Channels that are no multiple of four, borders that hold a zero point which is not 0, strides, depthwise."""
    rng, node = np.random.default_rng(7), helper.make_node
    sizes = {"w": (10, 3, 3, 3), "d": (10, 1, 3, 3), "p": (7, 10, 1, 1), "q": (6, 8, 3, 2)}
    constants = [numpy_helper.from_array((rng.standard_normal(s) / 4).astype(np.float32), n) for n, s in sizes.items()]
    nodes = [
        node("Conv", ["x", "w"], ["1"], pads=[1, 1, 1, 1], strides=[2, 1]), node("Relu", ["1"], ["2"]),
        node("Conv", ["2", "d"], ["3"], pads=[1, 0, 1, 1], group=10), node("Conv", ["3", "p"], ["4"]),
        node("Concat", ["4", "4"], ["5"], axis=1), node("Slice", ["5", "from", "to", "axis"], ["6"]),
        node("Conv", ["6", "q"], ["y"], pads=[0, 1, 2, 0], dilations=[1, 2]),
    ]  # fmt: skip
    numbers = {"from": 3, "to": 11, "axis": 1}
    constants += [numpy_helper.from_array(np.array([v], np.int64), n) for n, v in numbers.items()]
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in (("x", [1, 3, 9, 11]), ("y", None))]
    graph = helper.make_graph(nodes, "convolutions", *ports, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    given = [{"x": rng.standard_normal((1, 3, 9, 11)).astype(np.float32)} for _ in range(4)]
    quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", "int8", given)
    answers = []
    for target in ("x86-64-avx2", "opencl"):
        edgert.compile(tmp_path / "q.onnx", tmp_path / "m.edge", target=target, golden=False)
        with edgert.load(tmp_path / "m.edge") as model:
            answers.append([model.run(feeds)["y"] for feeds in given])
    with edgert.load(tmp_path / "m.edge") as model:
        kernels = [step["kernel"] for step in model.manifest["steps"]]
    assert sum(k.startswith(("conv2d_", "depthwise_")) for k in kernels) == 4
    assert np.ptp(answers[0]) > 0
    np.testing.assert_array_equal(answers[0], answers[1])
