"""Editing a graph: making nodes, replacing values, knowing constants. What every pass works through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from compiler.frontend import fold
from compiler.frontend.facts import Facts, ValueFact
from compiler.frontend.nodes import make_node, op_domain, op_version
from compiler.ops.registry import Custom, find
from targets.kernels.tensor import Index, Tensor

MODERN = 21  # the opset that passes write nodes in, whatever the model's
EDGERT = "edgert"  # the domain of the compiler's own operators


class Edit:
    """A graph and what is known of its values. Facts of new values are inferred from the operators' own definitions."""

    def __init__(self, model: ir.Model, facts: Facts) -> None:
        self.model, self.graph, self.facts = model, model.graph, facts
        self._serial = 0
        self._taken = {v.name for n in model.graph for v in n.outputs} | set(model.graph.initializers)
        self._fresh: list[ir.Node] = []

    # ---- reading --------------------------------------------------------------------------------------------------
    def nodes(self, *ops: str, domain: str = "") -> list[ir.Node]:
        """The nodes of those operators (of ONNX's own domain unless said) in order; all nodes when none is named."""
        return [n for n in self.graph if not ops or (n.op_type in ops and n.domain == domain)]

    def shape(self, value: ir.Value) -> tuple[Index, ...]:
        """Ints, and expressions over symbolic dimensions."""
        return tuple(self.facts.values[str(value.name)].shape)

    def dtype(self, value: ir.Value) -> str:
        """The element type's name."""
        return self.facts.values[str(value.name)].dtype

    def const(self, value: ir.Value | None) -> np.ndarray | None:
        """A constant's data, None for anything else."""
        if value is None or value.name not in self.facts.constants:
            return None
        return np.asarray(self.facts.constants[str(value.name)])

    def is_weight(self, value: ir.Value | None) -> bool:
        """Whether `value` is a constant, or a constant behind a DequantizeLinear."""
        node = value.producer() if value is not None else None
        if node is not None and node.op_type == "DequantizeLinear" and not node.domain:
            value = node.inputs[0]
        return value is not None and value.name in self.facts.constants

    def scalar(self, value: ir.Value | None) -> float | None:
        """A constant's single number, None for anything else."""
        if value is None or value.name not in self.facts.constants or any(d != 1 for d in self.shape(value)):
            return None
        return float(np.asarray(self.facts.constants[str(value.name)]).reshape(-1)[0])

    def attr(self, node: ir.Node, name: str, default: Any = None) -> Any:
        """An attribute's value, `default` where the node has none of that name."""
        found = node.attributes.get(name)
        return default if found is None else found.value

    def only_use(self, value: ir.Value) -> ir.Node | None:
        """The one node that uses `value`, once, when it is no graph output."""
        uses = list(value.uses())
        return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None

    # ---- writing --------------------------------------------------------------------------------------------------
    def name(self, stem: str) -> str:
        """A value name nobody has."""
        self._serial += 1
        while f"{stem}.{self._serial}" in self._taken:
            self._serial += 1
        self._taken.add(f"{stem}.{self._serial}")
        return f"{stem}.{self._serial}"

    def constant(self, stem: str, array: np.ndarray | Callable[[], np.ndarray], like: tuple | None = None) -> ir.Value:
        """A new constant. A callable is read when it is needed; `like` then gives its (shape, dtype)."""
        name = self.name(stem)
        value = ir.Value(name=name)
        if callable(array):
            assert like is not None
            shape, dtype = like
            value.const_value = ir.LazyTensor(
                lambda: ir.Tensor(np.ascontiguousarray(array())), dtype=ir.DataType.from_numpy(np.dtype(dtype)),
                shape=ir.Shape(shape), name=name,
            )  # fmt: skip
        else:
            shape, dtype = array.shape, array.dtype.name
            value.const_value = ir.Tensor(np.ascontiguousarray(array), name=name)
        value.shape, value.dtype = ir.Shape(shape), value.const_value.dtype
        self.graph.register_initializer(value)
        self.facts.values[name] = ValueFact(tuple(shape), str(dtype))
        self.facts.constants[name] = value.const_value
        return value

    def insert(
        self, before: ir.Node, op: str, inputs: Sequence[ir.Value | None], attrs: dict[str, Any] | None = None,
        domain: str = "", stem: str | None = None, version: int = MODERN,
    ) -> ir.Value:  # fmt: skip
        """A new one-output node ahead of `before`, of opset `version`; gives its output, shape and type inferred."""
        name = self.name(stem or op.lower())
        version = 1 if domain == EDGERT else version
        out = ir.Value(name=name)
        node = ir.node(op, inputs, attrs or {}, domain=domain, outputs=[out], name=name, version=version)
        self.graph.insert_before(before, node)
        self.infer(node)
        return node.outputs[0]

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Everything that read `old` reads `new`; a graph output keeps its name."""
        if old.is_graph_output():
            for i, out in enumerate(self.graph.outputs):
                if out is old:
                    self.graph.outputs[i] = self._rename_output(old, new)
        old.replace_all_uses_with(new)

    def _rename_output(self, old: ir.Value, new: ir.Value) -> ir.Value:
        # the output's name is part of the model's interface, so the new value takes it where it can
        if new.producer() is None or new.is_graph_output():
            node = ir.node("Identity", [new], outputs=[ir.Value(name=self.name(str(old.name)))], version=MODERN)
            self.graph.append(node)
            self.infer(node)
            new = node.outputs[0]
        name, other = str(old.name), str(new.name)
        facts = self.facts.values
        old.name, new.name = self.name(name), name
        facts[str(old.name)], facts[name] = facts[name], facts.pop(other)
        self.facts.symbolic.pop(other, None)
        return new

    def remove(self, node: ir.Node) -> None:
        """Takes a node out, and its name off its inputs' lists of users."""
        for i in range(len(node.inputs)):
            node.replace_input_with(i, None)
        self.graph.remove(node, safe=False)

    def infer(self, node: ir.Node) -> None:
        """Facts of a new node's outputs, from its operator's definition; a node of constants is folded."""
        facts = self.facts

        def leaf(name: str) -> Tensor:
            fact = facts.values[name]
            return Tensor(tuple(fact.shape), fact.dtype, name)

        definition = find(op_domain(node), node.op_type, op_version(node, facts))
        if definition is None:
            raise RuntimeError(f"a pass made {node.op_type}-{op_version(node, facts)}, which no handler defines")
        made = definition.lower(make_node(node, facts, leaf))
        tensors = made.outputs if isinstance(made, Custom) else [made] if isinstance(made, Tensor) else list(made)
        for value, tensor in zip(node.outputs, tensors, strict=False):
            if value.name and tensor is not None:
                facts.values[value.name] = ValueFact(tuple(tensor.shape), tensor.dtype)
        names = [v.name for v in node.inputs if v is not None]
        if node.domain or not names or any(n not in facts.constants for n in names) or not fold.foldable(node):
            return
        arrays = fold.fold(node, {str(n): facts.constants[str(n)] for n in names}, "", op_version(node, facts))
        for value, array in zip(node.outputs, arrays or [], strict=False):
            facts.constants[str(value.name)] = array

    def complete(self) -> None:
        """Infers what a pass left uninferred."""
        for node in self.graph:
            if any(v.name and v.name not in self.facts.values for v in node.outputs):
                self.infer(node)
