"""Turns nodes whose value is known into initializers: literals, shape arithmetic, and nodes all of whose inputs are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from . import fold, symbolic
from .facts import Facts, ValueFact
from .nodes import op_domain, op_version
from .simplify import literal, make_constant
from .types import dtype_name


class ConstantFolder:
    """Folds single nodes of one model; keeps its facts up to date."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def know(self, name: str, tensor: ir.TensorProtocol) -> bool:
        """Records a constant. False where its element type is not one of numbers or bools."""
        dtype = dtype_name(tensor.dtype)
        if dtype is None:
            return False
        self._facts.constants[name] = tensor
        self._facts.values[name] = ValueFact(tuple(tensor.shape.numpy()), dtype)
        return True

    def replace(self, output: ir.Value, data: np.ndarray | ir.TensorProtocol) -> None:
        """Lets an initializer stand for a node's output."""
        tensor = make_constant(output, data)
        self.know(tensor.name or "", tensor)

    def literal(self, node: ir.Node) -> bool:
        """Replaces a Constant node. False where it holds strings or a sparse tensor."""
        tensor = literal(node)
        if tensor is None or dtype_name(tensor.dtype) is None:
            return False
        self.replace(node.outputs[0], tensor)
        return True

    def adopt(self, values: Iterable[ir.Value]) -> None:
        """Records the initializers that an inlined branch brought along."""
        for value in values:
            if value.const_value is not None:
                self.know(value.name or "", value.const_value)

    def numbers(self, node: ir.Node, value: np.ndarray) -> None:
        """Replaces a node of shape arithmetic whose value has no symbolic part."""
        self.replace(node.outputs[0], value.astype(self._dtype(node, value)))

    def _dtype(self, node: ir.Node, value: np.ndarray) -> str:
        """The element type of a shape computation's result: bool, int64, or that of its data input."""
        if value.size and isinstance(value.reshape(-1)[0], bool):
            return "bool"
        if node.op_type in symbolic.NEEDS_SHAPE_ONLY:
            return "int64"
        if node.op_type == "Cast":
            return "int32" if node.attributes["to"].value == ir.DataType.INT32 else "int64"
        data = node.inputs[1 if node.op_type == "Where" else 0]
        return self._facts.values[data.name or ""].dtype if data is not None else "int64"

    def fold(self, node: ir.Node, facts: Sequence[ValueFact | None]) -> bool:
        """Runs the node now if its inputs are constants and the result (`facts`) is small. Returns whether it did."""
        names = [v.name for v in node.inputs if v is not None and v.name]
        constants = self._facts.constants
        if not names or any(name not in constants for name in names) or not fold.foldable(node):
            return False
        if node.op_type == "ConstantOfShape":
            fill = fold.filled(node, facts[0].shape if facts[0] else (), {n: constants[n] for n in names})
            if fill is not None:
                self.replace(node.outputs[0], fill)
            return fill is not None
        limit = max(fold.MOST_BYTES, sum(constants.tensor(name).nbytes for name in names))
        if fold.result_bytes(node, facts) > limit:
            return False
        inputs = {name: constants[name] for name in names}
        arrays = fold.fold(node, inputs, op_domain(node), op_version(node, self._facts))
        named = [v for v in node.outputs if v.name]
        if arrays is None or len(arrays) != len(named):
            return False
        for output, array in zip(named, arrays, strict=True):
            self.replace(output, array)
        return True
