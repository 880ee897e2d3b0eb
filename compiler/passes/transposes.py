"""Two transposes in a row become one, or none where they cancel."""

from __future__ import annotations

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    changed = False
    for node in edit.nodes("Transpose"):
        x = node.inputs[0]
        before = x.producer() if x is not None else None
        if before is None or before.op_type != "Transpose" or before.domain or before.inputs[0] is None:
            continue
        rank = len(edit.shape(before.inputs[0]))
        first = edit.attr(before, "perm") or list(range(rank))[::-1]
        second = edit.attr(node, "perm") or list(range(rank))[::-1]
        perm = [first[p] for p in second]
        if perm == list(range(rank)):
            edit.replace(node.outputs[0], before.inputs[0])
        else:
            edit.replace(node.outputs[0], edit.insert(node, "Transpose", [before.inputs[0]], {"perm": perm}))
        changed = True
    return changed
