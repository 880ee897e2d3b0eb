"""A few lines over `onnx.helper` for the models whose package holds weights but no graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # what opset 17 came with, so that older tools read the file too

ValueType = tuple[str, int, Sequence[int | str]]
"""A graph input or output: name, TensorProto element type, shape (a str is a symbolic dimension)."""


class GraphBuilder:
    """Collects nodes and weights; value names follow the node's name, so that reports can be read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, array: np.ndarray) -> str:
        """Add a weight (any shape and dtype) once under `name`; returns the name."""
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def op(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, called `name` like the node itself; returns that name."""
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, inputs: Sequence[ValueType], outputs: Sequence[ValueType]) -> onnx.ModelProto:
        """The checked model. Raises onnx.checker.ValidationError where the graph is not valid ONNX."""
        infos = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, self.name, infos[0], infos[1], list(self.weights.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgert")
        onnx.checker.check_model(model, full_check=True)
        return model


class ConvNet(GraphBuilder):
    """A classifier of convolution, batch norm and ReLU6, with weights named as in a torch state_dict.

    `input` is float32 [1, 3, size, size], `logits` float32 [1, classes]. BatchNormalization stays a node of its own,
    as in a training framework's export: folding it is the compiler's work.
    """

    def __init__(self, name: str, arrays: dict[str, np.ndarray], bn_epsilon: float) -> None:
        super().__init__(name)
        self.arrays = arrays
        self.bn_epsilon = bn_epsilon
        bounds = {"relu6.min": 0, "relu6.max": 6}
        self.relu6_range = [self.weight(key, np.array(value, np.float32)) for key, value in bounds.items()]

    def take(self, name: str) -> str:
        """The state_dict's array `name` as a weight."""
        return self.weight(name, self.arrays[name])

    def conv_bn(
        self, x: str, conv: str, bn: str, pads: Sequence[int], stride: int = 1, groups: int = 1, relu6: bool = True
    ) -> str:
        """Convolution `conv`.weight (no bias), batch norm `bn`.*, and ReLU6 unless told otherwise.

        `pads` is ONNX's [top, left, bottom, right] in elements.
        """
        kernel = list(self.arrays[conv + ".weight"].shape[2:])
        y = self.op("Conv", [x, self.take(conv + ".weight")], conv, kernel_shape=kernel, group=groups,
                    strides=[stride, stride], pads=list(pads), dilations=[1, 1])  # fmt: skip
        stats = [self.take(f"{bn}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        y = self.op("BatchNormalization", [y, *stats], bn, epsilon=self.bn_epsilon)
        return self.op("Clip", [y, *self.relu6_range], f"{bn}.relu6") if relu6 else y

    def classify(self, x: str, fc: str, size: int) -> onnx.ModelProto:
        """Average over the plane, then the linear layer `fc`; returns the whole model."""
        x = self.op("GlobalAveragePool", [x], "pool")
        x = self.op("Flatten", [x], "flatten", axis=1)
        self.op("Gemm", [x, self.take(fc + ".weight"), self.take(fc + ".bias")], "logits", transB=1)
        classes = self.arrays[fc + ".bias"].shape[0]
        return self.model(
            [("input", TensorProto.FLOAT, [1, 3, size, size])], [("logits", TensorProto.FLOAT, [1, classes])]
        )
