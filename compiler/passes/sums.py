"""Sums of squares and means written in two steps become the one reduction: the squares are never stored."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from targets.kernels.tensor import product, same_shape
from targets.target import Target

from .algebra import WIDE, NoMatch, close, operands
from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """ReduceSum and ReduceMean of x * x; then ReduceSum times 1 / n."""
    changed = 0
    for node in edit.nodes("ReduceSum", "ReduceMean"):
        changed += _square(edit, node)
    for node in edit.nodes("Mul", "Div"):
        changed += _mean(edit, node)
    return changed > 0


def _square(edit: Edit, node: ir.Node) -> bool:
    """A mean of squares becomes their sum divided by n."""
    x = node.inputs[0]
    square = x.producer() if x is not None else None
    if x is None or square is None or square.domain or square.op_type != "Mul" or edit.only_use(x) is None:
        return False
    a, b = square.inputs
    if a is not b or a is None or edit.dtype(a) not in WIDE:
        return False
    size = _reduced(edit, node)
    if edit.attr(node, "noop_with_empty_axes", 0) and (len(node.inputs) < 2 or edit.const(node.inputs[1]) is None):
        return False
    if node.op_type == "ReduceMean" and (size is None or size == 0):
        return False
    made = _like(edit, node, "ReduceSumSquare", a)
    if node.op_type == "ReduceMean":
        assert size is not None
        made = edit.insert(node, "Div", [made, _number(edit, float(size), edit.dtype(a))])
    edit.replace(node.outputs[0], made)
    return True


def _mean(edit: Edit, node: ir.Node) -> bool:
    try:
        total, number = operands(edit, node)
    except NoMatch:
        return False
    summed = total.producer()
    if summed is None or summed.domain or summed.op_type != "ReduceSum" or edit.only_use(total) is not node:
        return False
    x, size, dtype = summed.inputs[0], _reduced(edit, summed), edit.dtype(total)
    if x is None or not size or dtype not in WIDE or not same_shape(edit.shape(total), edit.shape(node.outputs[0])):
        return False
    if not close(number, 1.0 / size if node.op_type == "Mul" else float(size), dtype):
        return False
    edit.replace(node.outputs[0], _like(edit, summed, "ReduceMean", x))
    return True


def _like(edit: Edit, node: ir.Node, op: str, x: ir.Value) -> ir.Value:
    """Another reduction over the same axes: an input for all of them from opset 18 on, an attribute before."""
    attrs = {name: attr.value for name, attr in node.attributes.items()}
    inputs, version = [x, *node.inputs[1:]], op_version(node, edit.facts)
    if len(inputs) > 1 and version < 18:
        version = 18  # ReduceSum took them as an input from opset 13 on
    return edit.insert(node, op, inputs, attrs, stem=str(node.outputs[0].name), version=version)


def _reduced(edit: Edit, node: ir.Node) -> int | None:
    """How many elements go into one result; None where only running tells."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    before, after = product(edit.shape(x)), product(edit.shape(y))
    if not isinstance(before, int) or not isinstance(after, int) or after == 0:
        return None
    return int(before) // int(after)


def _number(edit: Edit, value: float, dtype: str) -> ir.Value:
    return edit.constant("count", np.array(value, dtype))
