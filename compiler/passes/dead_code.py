"""Removes nodes whose results nobody reads."""

from __future__ import annotations

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Backwards, so that a chain of dead nodes goes in one sweep."""
    changed = False
    for node in reversed(list(edit.graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            edit.remove(node)
            changed = True
    return changed
