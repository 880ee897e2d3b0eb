"""Removes nodes whose results nobody reads, and constants nobody uses."""

from __future__ import annotations

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Backwards, so that a chain of dead nodes goes in one sweep."""
    changed = False
    for node in reversed(list(edit.graph)):
        constant = all(v.name in edit.facts.constants for v in node.outputs if v.name)
        if constant or not any(v.uses() or v.is_graph_output() for v in node.outputs):
            if constant and any(v.is_graph_output() for v in node.outputs):
                continue
            if constant and any(v.uses() for v in node.outputs):
                continue  # its readers see the constant through the facts; the node itself makes no code
            edit.remove(node)
            changed = True
    return changed
