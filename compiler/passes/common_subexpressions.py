"""Nodes that compute the same from the same become one."""

from __future__ import annotations

import onnx_ir as ir

from targets.target import Target

from .edit import Edit

RANDOM = {
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout",
}  # fmt: skip
UNHASHABLE = {
    ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS, ir.AttributeType.TENSOR, ir.AttributeType.TENSORS,
}  # fmt: skip


def run(edit: Edit, target: Target) -> bool:
    """In order, so that the first of equal nodes stays."""
    seen: dict[tuple, ir.Node] = {}
    changed = False
    for node in list(edit.graph):
        key = _key(node)
        if key is None:
            continue
        first = seen.setdefault(key, node)
        if first is node or any(v.is_graph_output() for v in node.outputs):
            continue
        for old, new in zip(node.outputs, first.outputs, strict=True):
            edit.replace(old, new)
        edit.remove(node)
        changed = True
    return changed


def _key(node: ir.Node) -> tuple | None:
    if node.op_type in RANDOM:
        return None
    attrs = []
    for name, attr in sorted(node.attributes.items()):
        if attr.type in UNHASHABLE:
            return None
        value = attr.value
        attrs.append((name, tuple(value) if isinstance(value, list | tuple) else value))
    inputs = tuple(id(v) if v is not None else None for v in node.inputs)
    return (node.domain, node.op_type, inputs, tuple(attrs), len(node.outputs))
