"""a * (b * c) becomes (a * b) * c where b * c is larger than both: an outer product that would be stored as a whole.

Behind a normalisation, b is the deviation of each row and c the scale of each column.
"""

from __future__ import annotations

import onnx_ir as ir

from targets.kernels.tensor import same_shape
from targets.target import Target

from .algebra import WIDE
from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Each product that one other product reads."""
    return sum(_rewrite(edit, node) for node in edit.nodes("Mul")) > 0


def _rewrite(edit: Edit, node: ir.Node) -> bool:
    y = node.outputs[0]
    reader = edit.only_use(y)
    if reader is None or reader.domain or reader.op_type != "Mul" or edit.dtype(y) not in WIDE:
        return False
    b, c = node.inputs
    a = reader.inputs[1] if reader.inputs[0] is y else reader.inputs[0]
    if a is None or b is None or c is None or any(same_shape(edit.shape(v), edit.shape(y)) for v in (b, c)):
        return False
    if not same_shape(edit.shape(a), edit.shape(reader.outputs[0])):
        return False
    made = edit.insert(reader, "Mul", [edit.insert(reader, "Mul", [a, b]), c], stem=str(reader.outputs[0].name))
    edit.replace(reader.outputs[0], made)
    return True
