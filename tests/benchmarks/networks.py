"""A small convolutional network with every operator that the TFLite writer has, in float32 and quantized."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SHAPE = (1, 8, 13, 13)


def float_network(path: Path) -> Path:
    """Convolutions (plain, depthwise, padded to either side, strided), a residual, a mean and a matrix product."""
    rng = np.random.default_rng(3)
    shapes = {"w0": (16, 8, 3, 3), "w1": (16, 1, 5, 5), "w2": (16, 16, 1, 1), "w3": (10, 16)}
    constants = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    constants |= {f"b{i}": rng.normal(0, 0.3, count) for i, count in enumerate((16, 16, 16, 10))}
    constants |= {"zero": np.array(0.0), "six": np.array(6.0)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], "conv0", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Clip", ["c0", "zero", "six"], ["r0"], "clip"),
        node("Conv", ["r0", "w1", "b1"], ["c1"], "conv1", pads=[0, 1, 4, 3], group=16),
        node("Relu", ["c1"], ["r1"], "relu"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2"),
        node("Add", ["c2", "r0"], ["a"], "add"),
        node("GlobalAveragePool", ["a"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "w3", "b3"], ["y"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def quantized_network(path: Path) -> Path:
    """The same by `edgert quantize --scheme int8`."""
    from quant.quantize import quantize

    rng = np.random.default_rng(4)
    samples = [{"x": rng.normal(0, 1, SHAPE).astype(np.float32)} for _ in range(4)]
    quantize(float_network(path.with_suffix(".float.onnx")), path, "int8", samples)
    return path
