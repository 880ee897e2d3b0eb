"""A graph node as its operator handler sees it (compiler.ops.registry.Node)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx

from compiler.ops.registry import Node
from targets.kernels.tensor import Index, Tensor

from .dims import UNBOUNDED, largest
from .facts import Facts
from .types import dtype_name


class LazyConstants(list):
    """The constant inputs of one node, each read from disk at the moment it is asked for."""

    def __init__(self, facts: Facts, names: list[str | None]) -> None:
        super().__init__(names)
        self._facts = facts

    def _read(self, name: str | None) -> np.ndarray | None:
        if name is None:
            return None
        if name in self._facts.constants:
            return self._facts.constants[name]
        return self._facts.symbolic.get(name)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._read(name) for name in super().__getitem__(index)]
        return self._read(super().__getitem__(index))

    def __iter__(self) -> Iterator[np.ndarray | None]:
        return (self._read(name) for name in super().__iter__())


def op_domain(node: ir.Node) -> str:
    """The node's domain, the default one as the empty string."""
    return "" if node.domain == "ai.onnx" else node.domain


def op_version(node: ir.Node, facts: Facts) -> int:
    """The opset the node is of: its own where it came from an inlined function, else the model's."""
    return node.version or facts.opsets.get(op_domain(node), 1)


def attributes(node: ir.Node) -> dict[str, Any]:
    """The node's attributes as Python numbers, strings, lists, numpy arrays and (for subgraphs) onnx_ir graphs."""
    return {name: _attribute(attr) for name, attr in node.attributes.items() if not attr.is_ref()}


def _attribute(attr: ir.Attr) -> Any:
    kind = ir.AttributeType
    if attr.type == kind.TENSOR:
        return attr.value.numpy()
    if attr.type == kind.TENSORS:
        return [t.numpy() for t in attr.value]
    if attr.type in (kind.INTS, kind.FLOATS, kind.STRINGS, kind.GRAPHS):
        return list(attr.value)
    return attr.value


def wanted(value: ir.Value) -> bool:
    """Whether anybody reads this output."""
    return bool(value.name) and (bool(value.uses()) or value.is_graph_output())


def make_node(node: ir.Node, facts: Facts, leaves: Callable[[str], Tensor]) -> Node:
    """The registry's view of `node`: inputs are `leaves(value name)`, constants and symbolic values filled in lazily.

    `fresh` gives the same variable each time it is called for the same node and name.
    """
    names = [None if v is None or not v.name else v.name for v in node.inputs]
    outputs = [v.name or "" for v in node.outputs]
    declared = [facts.values.get(name) for name in outputs]

    def fresh(name: str, most: Index) -> tirx.Expr:
        key = re.sub(r"\W", "_", f"{name}_of_{next(filter(None, outputs), node.name)}")
        facts.fresh.add(key)
        return facts.declare(key, 0, min(UNBOUNDED, largest(most)))

    return Node(
        op=node.op_type,
        domain=op_domain(node),
        version=op_version(node, facts),
        name=node.name or next(filter(None, outputs), node.op_type),
        inputs=[None if name is None else leaves(name) for name in names],
        attrs=attributes(node),
        outputs=[wanted(v) for v in node.outputs],
        constants=LazyConstants(facts, names),
        output_dtypes=[f.dtype if f else dtype_name(v.dtype) for f, v in zip(declared, node.outputs, strict=True)],
        output_shapes=[f.shape if f else _static(v) for f, v in zip(declared, node.outputs, strict=True)],
        fresh=fresh,
    )


def _static(value: ir.Value) -> tuple[int, ...] | None:
    """The shape the model declares, where it is all numbers."""
    return value.shape.numpy() if value.shape is not None and value.shape.is_static() else None
