"""Two transposes in a row become one, or none where they cancel; views that keep all longer axes may lie between."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.registry import find
from compiler.ops.shapes import is_one
from targets.kernels.tensor import Index, same_shape
from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """From the first to the last, so that a chain of any length ends up as one."""
    changed = False
    for node in edit.nodes("Transpose"):
        before = _before(edit, node.inputs[0])
        if before is None or before.inputs[0] is None:
            continue
        made = _as_one(edit, node, before, before.inputs[0])
        if made is not None:
            edit.replace(node.outputs[0], made)
            changed = True
    return changed


def _before(edit: Edit, value: ir.Value | None) -> ir.Node | None:
    """The transpose under `value`, directly or under views that keep all axes longer than 1."""
    while value is not None and (node := value.producer()) is not None and not node.domain:
        if node.op_type == "Transpose":
            return node
        definition = find(node.domain, node.op_type, op_version(node, edit.facts))
        source = node.inputs[0] if node.inputs else None
        if definition is None or definition.kind != "view" or source is None:
            return None
        if not same_shape(_long(edit.shape(source)), _long(edit.shape(value))):
            return None
        value = source
    return None


def _as_one(edit: Edit, node: ir.Node, before: ir.Node, x: ir.Value) -> ir.Value | None:
    """`node` computed from `x`, which `before` transposes; None where neither one transpose nor a view does it."""
    first, second = _perm(edit, before), _perm(edit, node)
    y = node.outputs[0]
    if node.inputs[0] is before.outputs[0]:
        perm = [first[p] for p in second]
        return x if perm == sorted(perm) else edit.insert(node, "Transpose", [x], {"perm": perm})
    # axes longer than 1, by their place in x: in the order that `before` gives them, then in the order of `node`
    kept = [p for p in first if not is_one(edit.shape(x)[p])]
    rank = {axis: i for i, axis in enumerate(a for a, d in enumerate(edit.shape(node.inputs[0])) if not is_one(d))}  # type: ignore[arg-type]
    order = [kept[rank[p]] for p in second if p in rank]
    if not all(isinstance(d, int) for d in edit.shape(y)):
        return None
    if order != sorted(order):
        ones = [a for a, d in enumerate(edit.shape(x)) if is_one(d)]
        x = edit.insert(node, "Transpose", [x], {"perm": [*ones, *order]})
    shape = edit.constant("shape", np.array([int(d) for d in edit.shape(y)], np.int64))
    return edit.insert(node, "Reshape", [x, shape], stem=str(y.name))


def _perm(edit: Edit, node: ir.Node) -> list[int]:
    return list(edit.attr(node, "perm") or range(len(edit.shape(node.outputs[0])))[::-1])


def _long(shape: tuple[Index, ...]) -> tuple[Index, ...]:
    return tuple(d for d in shape if not is_one(d))
