"""Element-wise operators behind a lookup move into the table: f(Gather(T, i)) becomes Gather(f(T), i), f(T) constant.

Worth it where more elements are looked up than the table has.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.registry import find
from targets.kernels.tensor import extent, product
from targets.target import Target

from .edit import Edit

MOST_BYTES = 1 << 22  # of a new table: weights should not grow for a few operations


def run(edit: Edit, target: Target) -> bool:
    """Repeats until the operator behind each lookup is none that can move."""
    changed = False
    todo = edit.nodes("Gather")
    while todo:
        made = _absorb(edit, todo.pop())
        if made is not None:
            todo.append(made)
            changed = True
    return changed


def _absorb(edit: Edit, gather: ir.Node) -> ir.Node | None:
    """The lookup with its one reader moved into the table; None where that cannot be."""
    table, indices = gather.inputs
    if table is None or indices is None or table.name not in edit.facts.constants or edit.attr(gather, "axis", 0) != 0:
        return None
    reader = edit.only_use(gather.outputs[0])
    if reader is None or reader.domain or len(reader.outputs) != 1:
        return None
    definition = find(reader.domain, reader.op_type, op_version(reader, edit.facts))
    if definition is None or definition.kind != "elementwise":
        return None
    size, looked_up = product(edit.shape(table)), product(edit.shape(gather.outputs[0]))
    high = {name: bound[1] for name, bound in edit.facts.bounds.items()}
    if not isinstance(size, int) or size * 4 > MOST_BYTES or extent(looked_up, high) < size:
        return None
    inner = len(edit.shape(table)) - 1
    inputs: list[ir.Value | None] = []
    for value in reader.inputs:
        if value is None or value is gather.outputs[0]:
            inputs.append(None if value is None else table)
            continue
        constant = _per_column(edit, value, inner, len(edit.shape(gather.outputs[0])))
        if constant is None:
            return None
        inputs.append(constant)
    attrs = {name: attr.value for name, attr in reader.attributes.items()}
    made = edit.insert(reader, reader.op_type, inputs, attrs, version=op_version(reader, edit.facts))
    if made.name not in edit.facts.constants or edit.shape(made) != edit.shape(table):
        return None
    result = edit.insert(reader, "Gather", [made, indices], {"axis": 0}, stem=str(reader.outputs[0].name))
    edit.replace(reader.outputs[0], result)
    edit.remove(reader)
    return result.producer()


def _per_column(edit: Edit, value: ir.Value, inner: int, rank: int) -> ir.Value | None:
    """A constant that is the same for every looked-up row, in the rank of one row."""
    shape = edit.shape(value)
    if value.name not in edit.facts.constants or len(shape) > rank or any(d != 1 for d in shape[: len(shape) - inner]):
        return None
    if len(shape) <= inner:
        return value
    array = np.asarray(edit.const(value))
    return edit.constant(str(value.name), array.reshape(array.shape[array.ndim - inner :]))
