"""DynamicQuantizeLinear ahead of a transpose instead of behind it: the range of a tensor does not know its order.

Runs between the layout pass, which leaves a transpose on either side, and the one that takes neighbours together.
"""

from __future__ import annotations

from targets.target import Target

from .edit import Edit
from .spell import dynamic


def run(edit: Edit, target: Target) -> bool:
    """From the first to the last, so that what several transposes surround ends up outside them all."""
    changed = False
    for node in edit.nodes("DynamicQuantizeLinear"):
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None or before.domain or before.op_type != "Transpose" or before.inputs[0] is None:
            continue
        q, scale, zero = dynamic(edit, node, before.inputs[0])
        back = edit.insert(node, "Transpose", [q], {"perm": edit.attr(before, "perm")})
        for old, new in zip(node.outputs, (back, scale, zero), strict=False):
            edit.replace(old, new)
        changed = True
    return changed
