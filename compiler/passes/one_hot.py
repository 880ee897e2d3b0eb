"""A product of one-hot rows with a constant matrix picks rows of it: MatMul(Cast(x == 0..n-1), W) becomes a Gather.

Frameworks without an embedding operator write it so. Where x lies outside 0..n-1 the one-hot row is all zero, and so is
the product: the table gets a row of zeros for those.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.target import Target

from .algebra import NoMatch, Pattern
from .edit import Edit

ONNX_INT32 = 6
NARROW = {"int8", "int16", "uint8", "uint16"}  # int32 holds all of them; int32 and int64 stay as they are


def run(edit: Edit, target: Target) -> bool:
    """Each MatMul whose left side is such a comparison."""
    changed = 0
    for node in edit.nodes("MatMul"):
        try:
            indices, table = _match(edit, node)
        except NoMatch:
            continue
        _write(edit, node, indices, table)
        changed += 1
    return changed > 0


def _match(edit: Edit, node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """The integers [..., 1] and the constant matrix [n, m]. Raises NoMatch."""
    hot, table = node.inputs
    if hot is None or table is None or table.name not in edit.facts.constants or len(edit.shape(table)) != 2:
        raise NoMatch
    pattern = Pattern(edit)
    equal = pattern.producer(pattern.producer(hot, "Cast").inputs[0], "Equal")
    rows = edit.shape(table)[0]
    for x, range_ in (equal.inputs, equal.inputs[::-1]):
        known = edit.const(range_)
        if x is None or known is None or known.size != rows or known.shape[-1] != rows or known.dtype.kind not in "iu":
            continue
        shape = edit.shape(x)
        if len(shape) != len(edit.shape(hot)) or shape[-1] != 1 or edit.dtype(x) not in NARROW | {"int32", "int64"}:
            continue
        # zero times infinity would not be zero
        if np.array_equal(known.reshape(-1), np.arange(rows)) and np.all(np.isfinite(np.asarray(edit.const(table)))):
            return x, table
    raise NoMatch


def _write(edit: Edit, node: ir.Node, x: ir.Value, table: ir.Value) -> None:
    rows, columns = (int(d) for d in edit.shape(table))
    data, dtype = edit.facts.constants.tensor(str(table.name)), edit.dtype(table)
    last = edit.constant("axes", np.array([-1], np.int64))
    indices = edit.insert(node, "Squeeze", [x, last])
    if edit.dtype(indices) in NARROW:
        indices = edit.insert(node, "Cast", [indices], {"to": ONNX_INT32})
    kind = np.dtype(edit.dtype(indices))
    # -1 counts from the end in Gather: below and above the range both mean the row of zeros
    low, high = (edit.constant("bound", np.array(v, kind)) for v in (-1, rows))
    indices = edit.insert(node, "Clip", [indices, low, high])
    longer = edit.constant(
        str(table.name),
        lambda: np.concatenate([data.numpy(), np.zeros((1, columns), dtype)]),
        ((rows + 1, columns), dtype),
    )
    picked = edit.insert(node, "Gather", [longer, indices], {"axis": 0}, stem=str(node.outputs[0].name))
    edit.replace(node.outputs[0], picked)
