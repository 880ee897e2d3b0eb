"""Small float32 networks for the tests of equalisation, bias correction, report and auto."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, np.ndarray]


def model(
    nodes: list[onnx.NodeProto], weights: Arrays, shape: tuple[int, ...], inputs: str = "x", outputs: str = "y"
) -> onnx.ModelProto:
    """An ONNX model of float32 input `inputs` of `shape` and output `outputs`, types of all values inferred."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(outputs, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node called `op_output`."""
    return helper.make_node(op, inputs, [output], f"{op.lower()}_{output}", **attributes)


def convolutions(seed: int = 0, disparity: float = 50.0) -> onnx.ModelProto:
    """Conv, Relu, depthwise Conv, ReLU6, Conv, pool, Flatten, Gemm on [1, 3, 8, 8], channels of very unlike ranges."""
    rng = np.random.default_rng(seed)
    uneven = np.exp(rng.uniform(-1, 1, 8) * np.log(disparity) / 2)
    weights = {
        "w1": rng.standard_normal((8, 3, 3, 3)) * uneven[:, None, None, None] / 5,
        "b1": rng.standard_normal(8) * uneven / 5,
        "w2": rng.standard_normal((8, 1, 3, 3)) / uneven[:, None, None, None] / 3,
        "b2": np.linspace(-4, 8, 8),
        "w3": rng.standard_normal((6, 8, 1, 1)) / 3,
        "w4": rng.standard_normal((5, 6 * 16)) / 10,
        "b4": rng.standard_normal(5),
        "low": np.float32(0),
        "six": np.float32(6),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1] * 4),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", pads=[1] * 4, group=8),
        node("Clip", ["c2", "low", "six"], "r2"),
        node("Conv", ["r2", "w3"], "c3"),
        node("MaxPool", ["c3"], "p3", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p3"], "f3"),
        node("Gemm", ["f3", "w4", "b4"], "y", transB=1),
    ]
    return model(nodes, weights, (1, 3, 8, 8))


def images(count: int, seed: int = 1, shape: tuple[int, ...] = (1, 3, 8, 8)) -> list[Arrays]:
    """Samples for `convolutions`."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def run(proto: onnx.ModelProto, samples: list[Arrays]) -> np.ndarray:
    """The first output for all samples, stacked, by ONNX Runtime without optimisations."""
    from quant.model import open_session

    session = open_session(proto, optimise=False)
    return np.stack([session.run(None, feeds)[0] for feeds in samples])


def constant(proto: onnx.ModelProto, name: str) -> np.ndarray:
    """An initializer's values."""
    return numpy_helper.to_array(next(tensor for tensor in proto.graph.initializer if tensor.name == name))
