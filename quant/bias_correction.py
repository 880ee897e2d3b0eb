"""Bias correction: shift each layer's bias by the mean error that rounding its weights brings.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with E[x]
measured on calibration data: the rounding error e = W_q - W shifts output i by e_i E[x], which the bias takes back.
Zeros around the borders of a convolution are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quant.channels import channel_statistics
from quant.graph import Graph, attribute
from quant.weighted import Layers, Weighted
from targets.errors import UsageError

if TYPE_CHECKING:
    import onnx

    from quant.contract import Options
    from quant.data import Samples

INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Corrected:
    """What was added to the biases, by layer; and why other layers' stayed."""

    shifts: dict[str, np.ndarray] = field(default_factory=dict)  # [outputs]
    skipped: dict[str, str] = field(default_factory=dict)


def correct(
    model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Samples | None, options: Options
) -> onnx.ModelProto:
    """The step after rewriting: `quantized` (in place) with biases corrected against the float32 `model`.

    Raises UsageError without samples.
    """
    if samples is None:
        raise UsageError("bias correction needs calibration data: give an .npz file or a folder of samples")
    correct_biases(model, quantized, samples)
    return Graph(quantized).finish()


def correct_biases(
    model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Iterable[dict[str, np.ndarray]]
) -> Corrected:
    """Correct the biases of `quantized` in place; layers are those of `model`, found again by the name of their node.

    Only weights behind a DequantizeLinear have an error that is known here; others are skipped.
    """
    layers, graph, done = Layers(Graph(model)), Graph(quantized), Corrected()
    nodes, errors = {node.name: node for node in graph.nodes}, dict[str, tuple[Weighted, np.ndarray]]()
    for layer in layers.all:
        node = nodes.get(layer.node.name)
        weights = None if node is None or node.op_type != layer.node.op_type else dequantized(graph, node.input[1])
        if weights is None or weights.shape != layer.shape:
            done.skipped[layer.node.name] = "its weights are not behind a DequantizeLinear of their own shape"
        elif node is not None and bias_of(graph, node, layer) is None:
            done.skipped[layer.node.name] = "it has no bias, and none can be added to it"
        else:
            errors[layer.node.name] = (layer, weights.astype(np.float64) - layers.weights(layer))
    axes = {layer.node.input[0]: 1 if layer.node.op_type == "Conv" else -1 for layer, _ in errors.values()}
    seen = channel_statistics(model, samples, axes)
    for name, (layer, error) in errors.items():
        if layer.node.input[0] in seen:
            shift = -layer.times_means(error, seen[layer.node.input[0]].mean)
            _add(graph, bias_of(graph, nodes[name], layer), shift)
            done.shifts[name] = shift
    return done


def dequantized(graph: Graph, name: str) -> np.ndarray | None:
    """The float32 values of a constant or of DequantizeLinear of constants (per tensor, axis or block), else None."""
    if (value := graph.constant(name)) is not None:
        return value
    node = graph.producer.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    codes, scale = graph.constant(node.input[0]), graph.constant(node.input[1])
    zero = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.int32(0)
    if codes is None or scale is None or zero is None:
        return None
    axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)

    def spread(values: np.ndarray) -> np.ndarray:
        if np.ndim(values) == 0 or np.size(values) == 1:
            return np.reshape(values, ())
        if block:
            return np.repeat(values, block, axis=axis).take(range(codes.shape[axis]), axis=axis)
        return values.reshape([-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)])

    wide = codes.astype(np.float64) - spread(np.asarray(zero).astype(np.float64))
    return (wide * spread(np.asarray(scale, np.float64))).astype(np.float32)


def bias_of(graph: Graph, node: onnx.NodeProto, layer: Weighted) -> str | None:
    """The constant that holds the bias of `node` in the quantized graph: float32, or int32 behind a DequantizeLinear.

    A Conv or Gemm without one gets zeros. None where a MatMul has no Add, or the bias is kept in another way.
    """
    if node.op_type == "MatMul":
        users = graph.consumers[node.output[0]]
        adds = [user for user in users if user.op_type == "Add" and len(users) == 1]
        names = [name for add in adds for name in add.input if name == layer.bias and name in graph.initializers]
        return names[0] if names and len(graph.consumers[names[0]]) == 1 else None
    if len(node.input) < 3 or not node.input[2]:
        _give_bias(graph, node, layer.out_channels)
    name = node.input[2]
    maker = graph.producer.get(name)
    if maker is not None and maker.op_type == "DequantizeLinear" and len(graph.consumers[name]) == 1:
        name = maker.input[0]
    constant = graph.constant(name)
    shared = len(graph.consumers[name]) != 1
    return None if constant is None or shared or constant.dtype not in (np.float32, np.int32) else name


def _give_bias(graph: Graph, node: onnx.NodeProto, outputs: int) -> None:
    """Zeros as bias: int32 with scale x_scale * w_scale where both are quantized, as integer kernels have it."""
    scales = []
    for name in node.input[:2]:
        maker = graph.producer.get(name)
        scale = graph.constant(maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None
        scales.append(None if scale is None or scale.size not in (1, outputs) else scale.reshape(-1))
    base = f"{node.name}_bias"
    if scales[0] is not None and scales[1] is not None and scales[0].size == 1:
        both = np.broadcast_to((scales[0] * scales[1]).astype(np.float32), outputs)
        codes = graph.add_constant(f"{base}_q", np.zeros(outputs, np.int32))
        name = graph.add("DequantizeLinear", [codes, graph.add_constant(f"{base}_scale", both)], base, axis=0)
    else:
        name = graph.add_constant(base, np.zeros(outputs, np.float32))
    del node.input[2:]
    node.input.append(name)
    graph.index()


def _add(graph: Graph, name: str | None, shift: np.ndarray) -> None:
    assert name is not None
    bias = graph.constant(name)
    assert bias is not None
    if bias.dtype == np.int32:
        scale = graph.constant(graph.consumers[name][0].input[1])
        assert scale is not None
        codes = bias.astype(np.float64) + np.rint(shift / scale.astype(np.float64))
        graph.set_constant(name, np.clip(codes, INT32.min, INT32.max).astype(np.int32))
        return
    graph.set_constant(name, (bias.astype(np.float64).reshape(-1) + shift).astype(np.float32))
