"""A small int8 network with the layers of those that microcontrollers run: convolution, depthwise, pointwise, dense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quant.quantize import quantize

SIZE, CLASSES = 9, 5


def samples(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Inputs of the network."""
    rng = np.random.default_rng([29, seed])
    return [{"image": rng.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)} for _ in range(count)]


def tiny(folder: Path) -> Path:
    """The network as QDQ int8, with weights made of random numbers."""
    rng = np.random.default_rng(31)
    weights, nodes = [], []

    def conv(source: str, name: str, shape: tuple[int, ...], **attrs: object) -> str:
        weights.append(numpy_helper.from_array((rng.standard_normal(shape) / 4).astype(np.float32), f"{name}.w"))
        weights.append(numpy_helper.from_array((rng.standard_normal(shape[0]) / 8).astype(np.float32), f"{name}.b"))
        nodes.append(helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [f"{name}.c"], name, **attrs))
        nodes.append(helper.make_node("Relu", [f"{name}.c"], [name], f"{name}.relu"))
        return name

    x = conv("image", "first", (8, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    x = conv(x, "depthwise", (8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)
    x = conv(x, "pointwise", (12, 8, 1, 1))
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    weights.append(numpy_helper.from_array((rng.standard_normal((12, CLASSES)) / 2).astype(np.float32), "dense.w"))
    nodes.append(helper.make_node("MatMul", ["flat", "dense.w"], ["logits"], "dense"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(nodes, "tiny", [image], [logits], weights)
    plain, made = folder / "tiny_f32.onnx", folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), plain)
    quantize(plain, made, "int8", samples(8, 1))
    return with_softmax(made)


def with_softmax(path: Path) -> Path:
    """Softmax of the quantized logits behind the model at `path`, as exporters of full int8 networks have it."""
    model = onnx.load(path)
    scale = numpy_helper.from_array(np.float32(0.05), "logits.scale")
    zero = numpy_helper.from_array(np.int8(-3), "logits.zero")
    model.graph.initializer.extend([scale, zero])
    model.graph.node.extend([
        helper.make_node("QuantizeLinear", ["logits", scale.name, zero.name], ["codes"], "quantize_logits"),
        helper.make_node("DequantizeLinear", ["codes", scale.name, zero.name], ["rough"], "dequantize_logits"),
        helper.make_node("Softmax", ["rough"], ["classes"], "softmax"),
    ])  # fmt: skip
    model.graph.output[0].name = "classes"
    onnx.save(model, path)
    return path
