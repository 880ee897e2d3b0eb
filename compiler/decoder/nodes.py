"""A graph under construction: its nodes, and constants that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from compiler.gguf import Tensor


class Nodes:
    """`nodes` and `initializers` as they are added; `weights` of which constants are made."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}

    def scaled(self, x: ir.Value, factor: float, stem: str) -> ir.Value:
        """x times a number."""
        name = f"{stem}.factor"
        return self.op("Mul", [x, self.lazy(name, np.float32, (), lambda: np.array(factor, np.float32))], stem)

    def floats(self, name: str) -> ir.Value:
        """A weight in float32."""
        weight = self.weights[name]
        return self.lazy(name, np.float32, weight.shape, weight.numpy)

    def numbers(self, values: Sequence[int]) -> ir.Value:
        """An int64 constant [len(values)]."""
        array = np.array(values, np.int64)
        return self.lazy(f"numbers.{'.'.join(map(str, values))}", np.int64, array.shape, lambda: array)

    def lazy(
        self, name: str, dtype: type, shape: tuple[int, ...], make: Callable[[], np.ndarray | None]
    ) -> ir.Value:  # fmt: skip
        """A constant that is made when it is asked for; once a name."""
        if name not in self.initializers:
            kind = ir.DataType.from_numpy(np.dtype(dtype))
            tensor = ir.LazyTensor(
                lambda: ir.Tensor(np.ascontiguousarray(make()), name=name), kind, ir.Shape(shape), name=name
            )
            self.initializers[name] = ir.Value(
                name=name, shape=ir.Shape(shape), type=ir.TensorType(kind), const_value=tensor
            )
        return self.initializers[name]

    def op(
        self, kind: str, inputs: Sequence[ir.Value | None], stem: str, domain: str = "", outputs: int = 1,
        **attributes: Any,
    ) -> ir.Value:  # fmt: skip
        """A node; gives back its first result, which is called `stem` like the node."""
        node = ir.node(kind, inputs, attributes, domain=domain, name=stem, num_outputs=outputs)
        node.outputs[0].name = stem
        self.nodes.append(node)
        return node.outputs[0]
