"""Lookups in large constant tables (embeddings) become GatherRows, whose weights can be read row by row from flash."""

from __future__ import annotations

from flashload.layout import LEAST
from targets.dtypes import item_size
from targets.kernels.gather_rows import TYPES
from targets.kernels.tensor import product
from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Every Gather along the first axis of a matrix that can be streamed."""
    changed = False
    for node in edit.nodes("Gather") if "linux" in target.triple else ():
        table, indices = node.inputs
        if table is None or indices is None or edit.attr(node, "axis", 0) != 0:
            continue
        if table.name not in edit.facts.constants or edit.is_weight(indices) or not edit.shape(indices):
            continue
        size, dtype = product(edit.shape(table)), edit.dtype(table)
        if len(edit.shape(table)) != 2 or dtype not in TYPES:
            continue
        if not isinstance(size, int) or size * item_size(dtype) < LEAST:
            continue
        made = edit.insert(node, "GatherRows", [table, indices], domain="edgert", stem=str(node.outputs[0].name))
        edit.replace(node.outputs[0], made)
        edit.remove(node)
        changed = True
    return changed
