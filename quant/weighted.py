"""The layers of a graph that have weights, and their weights as matrices of output and input channels.

Conv, Gemm and MatMul with constant weights keep their channels along different axes; here is the one place that
knows which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from quant.graph import Graph, attribute

WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Weighted:
    """One Conv, Gemm or MatMul with constant weights, and the bias that is added to it."""

    node: onnx.NodeProto
    weight: str  # name of the initializer
    shape: tuple[int, ...]  # of the weights
    group: int  # of a Conv, else 1
    output_last: bool  # the weights are [inputs, outputs], not [outputs, inputs, ...]
    bias: str | None  # name of the initializer
    output: str  # the tensor after the bias

    @property
    def out_channels(self) -> int:
        """How many outputs it has."""
        return self.shape[1] if self.output_last else self.shape[0]

    @property
    def in_channels(self) -> int:
        """How many inputs it has."""
        return self.shape[0] if self.output_last else self.shape[1] * self.group

    def by_output(self, weights: np.ndarray) -> np.ndarray:
        """[outputs, all that an output is made of] of weights of this layer's shape."""
        return weights.T if self.output_last else weights.reshape(self.shape[0], -1)

    def by_input(self, weights: np.ndarray) -> np.ndarray:
        """[inputs, all that is made of an input]."""
        if self.output_last:
            return weights
        outputs, inputs = self.shape[0] // self.group, self.shape[1]
        grouped = weights.reshape(self.group, outputs, inputs, -1)
        return grouped.transpose(0, 2, 1, 3).reshape(self.in_channels, -1)

    def times_means(self, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
        """[outputs]: the mean output, where input channel c is means[c] throughout (borders not counted)."""
        if self.output_last:
            return means @ weights
        outputs, inputs = self.shape[0] // self.group, self.shape[1]
        kernel_sums = weights.reshape(self.group, outputs, inputs, -1).sum(axis=-1)
        return np.einsum("goi,gi->go", kernel_sums, means.reshape(self.group, inputs)).reshape(-1)


class Layers:
    """The layers of a graph, whose weights can be changed in place."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.all = [layer for node in graph.nodes if (layer := self._layer(node)) is not None]

    def weights(self, layer: Weighted) -> np.ndarray:
        """The layer's weights, as they are stored."""
        return self._constant(layer.weight)

    def fixed(self, layer: Weighted) -> str | None:
        """Why the layer's weights or bias cannot be changed for it alone, or None where they can."""
        shared = [name for name in (layer.weight, layer.bias) if name and len(self.graph.consumers[name]) > 1]
        if shared:
            return f"{shared[0]} serves several layers"
        return None if layer.bias in (None, *self.graph.initializers) else f"{layer.bias} is not constant"

    def scale_outputs(self, layer: Weighted, scale: np.ndarray) -> None:
        """Multiply output channel i, bias included, by scale[i]."""
        weights = self.weights(layer)
        along = [1] * weights.ndim
        along[1 if layer.output_last else 0] = -1
        self._set(layer.weight, weights * scale.reshape(along))
        if layer.bias:
            self._set(layer.bias, self.bias(layer) * scale)

    def scale_inputs(self, layer: Weighted, scale: np.ndarray) -> None:
        """Multiply the weights of input channel i by scale[i]."""
        weights = self.weights(layer)
        if layer.output_last:
            self._set(layer.weight, weights * scale[:, None])
            return
        grouped = weights.reshape(layer.group, layer.shape[0] // layer.group, layer.shape[1], -1)
        self._set(layer.weight, (grouped * scale.reshape(layer.group, 1, -1, 1)).reshape(layer.shape))

    def bias(self, layer: Weighted) -> np.ndarray:
        """[outputs]: the layer's bias, zeros where it has none."""
        value = np.zeros(1) if layer.bias is None else self._constant(layer.bias).reshape(-1)
        return np.broadcast_to(value, layer.out_channels)

    def _constant(self, name: str) -> np.ndarray:
        value = self.graph.constant(name)
        assert value is not None
        return value

    def _set(self, name: str, value: np.ndarray) -> None:
        # A bias may be stored as [1, outputs]; one number for all channels becomes one for each.
        shape = self._constant(name).shape
        value = value.astype(np.float32)
        self.graph.set_constant(name, value.reshape(shape) if int(np.prod(shape)) == value.size else value)

    def _layer(self, node: onnx.NodeProto) -> Weighted | None:
        if node.op_type not in WEIGHTED or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
            return None
        weight = node.input[1]
        if weight not in self.graph.initializers or self.graph.dtype(weight) != onnx.TensorProto.FLOAT:
            return None
        shape = tuple(self.graph.initializers[weight].dims)
        bias, output = (node.input[2] if len(node.input) > 2 else "") or None, node.output[0]
        if node.op_type == "Conv":
            return Weighted(node, weight, shape, attribute(node, "group", 1), False, bias, output)
        if len(shape) != 2 or attribute(node, "transA", 0):
            return None
        if node.op_type == "MatMul":
            bias, output = self._added(output, shape[1])
        elif bias and (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) != (1.0, 1.0):
            return None
        return Weighted(node, weight, shape, 1, not attribute(node, "transB", 0), bias, output)

    def _added(self, tensor: str, channels: int) -> tuple[str | None, str]:
        """The constant [channels] that an Add after a MatMul adds, and the Add's output."""
        users = self.graph.consumers[tensor]
        if len(users) == 1 and users[0].op_type == "Add" and tensor not in self.graph.outputs:
            for name in users[0].input:
                if name in self.graph.initializers and tuple(self.graph.initializers[name].dims) == (channels,):
                    return name, users[0].output[0]
        return None, tensor
