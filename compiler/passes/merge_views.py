"""Reshapes of reshapes become one; transposes that move only axes of size 1 become reshapes; no-ops go."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.registry import find
from targets.kernels.tensor import same_shape
from targets.target import Target

from .edit import Edit

NOTHING = {"Identity", "Dropout"}


def run(edit: Edit, target: Target) -> bool:
    """Graph outputs keep the node that makes them."""
    changed = False
    for node in list(edit.graph):
        if node.domain or not node.inputs or node.inputs[0] is None or not _wanted(node):
            continue
        x, y = node.inputs[0], node.outputs[0]
        if str(y.name) not in edit.facts.values or str(x.name) not in edit.facts.values:
            continue
        if node.op_type == "Transpose" and _moves_nothing(edit, node):
            new = _reshape(edit, node, x, y)
            if new is not None:
                edit.replace(y, new)
                changed = True
            continue
        definition = find(node.domain, node.op_type, op_version(node, edit.facts))
        if definition is None or definition.kind != "view":
            continue
        used_beyond = any(o.uses() for o in node.outputs[1:])
        same = same_shape(edit.shape(x), edit.shape(y)) and edit.dtype(x) == edit.dtype(y)
        if (same or node.op_type in NOTHING) and not used_beyond and not y.is_graph_output():
            edit.replace(y, x)
            changed = True
            continue
        origin = None if used_beyond or y.is_graph_output() else _origin(edit, x, y)
        if origin is not None:
            edit.replace(y, origin)
            changed = True
            continue
        before = x.producer()
        kind = find(before.domain, before.op_type, op_version(before, edit.facts)) if before is not None else None
        if kind is not None and kind.kind == "view" and before is not None and before.inputs[0] is not None:
            node_is_reshape = node.op_type == "Reshape" and all(isinstance(d, int) for d in edit.shape(y))
            if node_is_reshape:
                new = _reshape(edit, node, before.inputs[0], y)
                if new is not None:
                    edit.replace(y, new)
                    changed = True
    return changed


def _wanted(node: ir.Node) -> bool:
    return bool(node.outputs[0].uses()) or node.outputs[0].is_graph_output()


def _origin(edit: Edit, x: ir.Value, y: ir.Value) -> ir.Value | None:
    """The value under a chain of views that has `y`'s shape already."""
    while (node := x.producer()) is not None and not node.domain and node.inputs and node.inputs[0] is not None:
        definition = find(node.domain, node.op_type, op_version(node, edit.facts))
        if definition is None or definition.kind != "view":
            return None
        x = node.inputs[0]
        if same_shape(edit.shape(x), edit.shape(y)) and edit.dtype(x) == edit.dtype(y):
            return x
    return None


def _reshape(edit: Edit, node: ir.Node, x: ir.Value, like: ir.Value) -> ir.Value | None:
    """`x` seen with the shape of `like`; None where that shape is symbolic."""
    shape = edit.shape(like)
    if not all(isinstance(d, int) for d in shape):
        return None
    target = edit.constant("shape", np.array([int(d) for d in shape], np.int64))
    return edit.insert(node, "Reshape", [x, target], stem=str(like.name))


def _moves_nothing(edit: Edit, node: ir.Node) -> bool:
    """Whether the axes longer than 1 keep their order, so that the bytes stay where they are."""
    shape = edit.shape(node.inputs[0])  # type: ignore[arg-type]
    perm = edit.attr(node, "perm") or list(range(len(shape)))[::-1]
    kept = [p for p in perm if not (isinstance(shape[p], int) and shape[p] == 1)]
    return kept == sorted(kept)
