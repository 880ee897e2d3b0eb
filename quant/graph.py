"""A thin handle on an ONNX graph for rewriting it: who makes and who uses a value, constants, new nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from subgraphs(inner)


class Graph:
    """The outermost graph of a model that is being rewritten in place.

    Nodes may be added in any order: `finish` sorts them and drops what nothing uses. Values that graphs inside a node
    (If, Loop) take from outside count as used by that node. `inputs` and `outputs` are the model's value names.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.proto = model.graph
        self.initializers = {tensor.name: tensor for tensor in self.proto.initializer}
        self.inputs = [value.name for value in self.proto.input if value.name not in self.initializers]
        self.outputs = [value.name for value in self.proto.output]
        self.values = {v.name: v for v in (*self.proto.input, *self.proto.value_info, *self.proto.output)}
        self._names = {*self.initializers, *self.values, *(node.name for node in self.proto.node)}
        self._names.update(name for node in self.proto.node for name in node.output)
        self.producer: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        self.index()

    def index(self) -> None:
        """Bring `producer` and `consumers` up to date. `add`, `rename_uses` and `remove` do so themselves."""
        self.producer = {name: node for node in self.proto.node for name in node.output if name}
        self.consumers = defaultdict(list)
        for node in self.proto.node:
            for name in dict.fromkeys(used_by(node)):
                self.consumers[name].append(node)

    @property
    def nodes(self) -> list[NodeProto]:
        """The nodes as they stand now; safe to walk while adding."""
        return list(self.proto.node)

    def constant(self, name: str) -> np.ndarray | None:
        """A constant's values (read-only, in ONNX's layout), or None if `name` is computed or fed."""
        tensor = self.initializers.get(name)
        if tensor is None:
            return None
        return numpy_helper.to_array(tensor)

    def shape(self, name: str) -> tuple[int | str | None, ...] | None:
        """A value's shape: ints, names of symbolic dimensions, None for a dimension not known; None without rank."""
        if name in self.initializers:
            return tuple(self.initializers[name].dims)
        value = self.values.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in value.type.tensor_type.shape.dim
        )

    def dtype(self, name: str) -> int:
        """A value's ONNX element type, `TensorProto.UNDEFINED` (0) if not known."""
        if name in self.initializers:
            return self.initializers[name].data_type
        return self.values[name].type.tensor_type.elem_type if name in self.values else 0

    def fresh(self, base: str) -> str:
        """A name nothing has yet, `base` itself if free."""
        name, i = base, 1
        while name in self._names:
            i += 1
            name = f"{base}_{i}"
        self._names.add(name)
        return name

    def add_constant(self, base: str, array: np.ndarray | np.generic | onnx.TensorProto) -> str:
        """A new constant; its name. 4-bit arrays have `ml_dtypes.int4` or `uint4` as dtype."""
        name = self.fresh(base)
        tensor = array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(np.asarray(array))
        tensor.name = name
        self.proto.initializer.append(tensor)
        self.initializers[name] = self.proto.initializer[-1]
        return name

    def set_constant(self, name: str, array: np.ndarray) -> None:
        """Other values for a constant that exists (all its users see them)."""
        self.initializers[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))

    def add(self, op: str, inputs: list[str], base: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """A new node with fresh output names made from `base`; the name of its first output."""
        names = [self.fresh(base if i == 0 else f"{base}_{i}") for i in range(outputs)]
        node = helper.make_node(op, inputs, names, self.fresh(f"{op}_{base}"), domain=domain, **attributes)
        self.proto.node.append(node)
        node = self.proto.node[-1]
        self.producer.update(dict.fromkeys(names, node))
        for name in dict.fromkeys(inputs):
            if name:
                self.consumers[name].append(node)
        return names[0]

    def rename_uses(self, old: str, new: str, nodes: list[NodeProto] | None = None) -> None:
        """Let `nodes` (all, without) take `new` where they took `old`; graph outputs keep their names."""
        for node in list(self.consumers[old]) if nodes is None else nodes:
            self.replace_input(node, old, new)

    def replace_input(self, node: NodeProto, old: str, new: str) -> None:
        """Let one node take `new` wherever it took `old`."""
        inside = [graph for a in node.attribute if a.HasField("g") for graph in subgraphs(a.g)]
        for user in [node, *(inner for graph in inside for inner in graph.node)]:
            user.input[:] = [new if name == old else name for name in user.input]
        self.consumers[old] = [user for user in self.consumers[old] if user is not node]
        if all(user is not node for user in self.consumers[new]):
            self.consumers[new].append(node)

    def rename_output(self, node: NodeProto, old: str, base: str) -> str:
        """Free the name `old` (say, of a graph output) for another node to make: the node's output gets a new name."""
        new = self.fresh(base)
        node.output[:] = [new if name == old else name for name in node.output]
        self.producer.pop(old, None)
        self.producer[new] = node
        return new

    def remove(self, node: NodeProto) -> None:
        """Take a node out."""
        self.proto.node.remove(node)
        self.index()

    def finish(self) -> onnx.ModelProto:
        """Sort the nodes, drop nodes and constants that nothing uses and types of values that are gone."""
        self.index()
        order: list[NodeProto] = []
        state: dict[int, bool] = {}
        stack = [(self.producer[name], False) for name in reversed(self.outputs) if name in self.producer]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif id(node) not in state:
                state[id(node)] = True
                stack.append((node, True))
                stack.extend((self.producer[n], False) for n in reversed(used_by(node)) if n in self.producer)
        used = {*self.outputs, *(name for node in order for name in used_by(node))}
        made = {name for node in order for name in node.output}
        _refill(self.proto.node, order)
        _refill(self.proto.initializer, [t for t in self.proto.initializer if t.name in used])
        _refill(self.proto.value_info, [v for v in self.proto.value_info if v.name in made])
        self.__init__(self.model)  # type: ignore[misc]
        return self.model


def used_by(node: NodeProto) -> list[str]:
    """The values a node takes, those that its inner graphs take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for graph in subgraphs(attribute.g):
                names += [name for inner in graph.node for name in inner.input if name]
                names += [value.name for value in graph.output]
    return names


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute as a Python value (strings as str), or `default`."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _refill(field: Any, items: list) -> None:
    if len(items) == len(field) and all(a is b for a, b in zip(items, field, strict=True)):
        return
    copies = []
    for item in items:
        copies.append(type(item)())
        copies[-1].CopyFrom(item)
    del field[:]
    field.extend(copies)
