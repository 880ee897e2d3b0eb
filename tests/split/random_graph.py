"""A small network in the making, with the shapes of its values."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]

MOST = 1 << 14  # elements of a value: 64 KiB
OPSET = 17


class Graph:
    """A network in the making. `shapes`: of all values but weights, in the order they were made."""

    def __init__(self) -> None:
        self.shapes: dict[str, Shape] = {}
        self.inputs: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.kept: set[str] = set()  # values handed out although something reads them
        self.rng = np.random.default_rng(4)

    def op(self, kind: str, inputs: list[str], *shapes: Shape, **attrs: Any) -> str:
        """Adds an operator; its first output."""
        names = [f"v{len(self.shapes) + i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"n{len(self.nodes)}", **attrs))
        self.shapes.update(zip(names, shapes, strict=True))
        return names[0]

    def like(self, kind: str, inputs: list[str], **attrs: Any) -> str:
        """An operator whose result has the shape of its first input."""
        return self.op(kind, inputs, self.shapes[inputs[0]], **attrs)

    def weight(self, *shape: int) -> str:
        """Seeded; such that a product keeps the size of its operands."""
        values = self.rng.standard_normal(shape) / np.sqrt(max(prod(shape[1:]), 1))
        return self.constant(values.astype(np.float32))

    def constant(self, values: np.ndarray, stem: str = "w") -> str:
        name = f"{stem}{len(self.weights)}"
        self.weights[name] = values
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    @property
    def outputs(self) -> list[str]:
        """What nothing reads, and what was kept."""
        read = {name for node in self.nodes for name in node.input}
        return [n for n in self.shapes if n not in self.inputs and (n not in read or n in self.kept)]

    def proto(self) -> onnx.ModelProto:
        ports = [
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in names]
            for names in (self.inputs, self.outputs)
        ]
        constants = [numpy_helper.from_array(values, name) for name, values in self.weights.items()]
        graph = helper.make_graph(self.nodes, "g", *ports, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def feeds(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(5)
        return {n: rng.standard_normal(self.shapes[n]).astype(np.float32) for n in self.inputs}

    def __repr__(self) -> str:
        """One line a node, for what hypothesis reports."""
        lines = [f"inputs { ({n: self.shapes[n] for n in self.inputs}) } outputs {self.outputs}"]
        for node in self.nodes:
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            reads = [
                f"{n}{list(v.shape) if v.size > 8 else v.tolist()}" if (v := self.weights.get(n)) is not None else n
                for n in node.input
            ]
            made = [f"{n}{list(self.shapes[n])}" for n in node.output]
            lines.append(f"{', '.join(made)} = {node.op_type}({', '.join(reads)}) {attrs or ''}")
        return "\n".join(lines)
