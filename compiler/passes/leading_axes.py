"""Reshapes that join leading axes sink below products and element-wise operators, until the one that undoes them.

Exporters, and ONNX Runtime's own optimizer, write a linear layer over [batch, tokens, features] as a Gemm over
[batch * tokens, features] between two Reshapes. Without them a residual sum and an activation fuse with the product.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.fusion import kind_of
from targets.kernels.tensor import product
from targets.target import Target

from .edit import EDGERT, Edit


def run(edit: Edit, target: Target) -> bool:
    """Each such Reshape as far down as it goes, below each of its readers by itself."""
    changed = False
    todo = edit.nodes("Reshape")
    while todo:
        view = todo.pop()
        if _joined(edit, view) is None or view.outputs[0].is_graph_output():
            continue
        for reader in {use.node: None for use in view.outputs[0].uses()}:
            made = _sink(edit, view, reader)
            if made is not None:
                todo.append(made)
                changed = True
    return changed


def _joined(edit: Edit, node: ir.Node) -> tuple[int, ...] | None:
    """The leading axes that this node sees as one, whatever it does behind them; None where there are none."""
    if node.op_type != "Reshape" or node.domain or node.inputs[0] is None:
        return None
    before, after = edit.shape(node.inputs[0]), edit.shape(node.outputs[0])
    if len(after) < 2 or not all(isinstance(d, int) for d in (*before, *after)) or not product(after):
        return None
    found = (lead for lead in range(2, len(before)) if product(before[:lead]) == after[0])
    lead = next(found, None)
    return None if lead is None else tuple(int(d) for d in before[:lead])


def _apart(edit: Edit, view: ir.Node, lead: tuple[int, ...]) -> ir.Value:
    """What the view shows with the leading axes still apart."""
    x = view.inputs[0]
    assert x is not None
    shape = (*lead, *edit.shape(view.outputs[0])[1:])
    if edit.shape(x) == shape:
        return x
    return edit.insert(view, "Reshape", [x, edit.constant("shape", np.array(shape, np.int64))])


def _sink(edit: Edit, view: ir.Node, reader: ir.Node) -> ir.Node | None:
    """The view moved below `reader`; None where that cannot be."""
    lead = _joined(edit, view)
    if lead is None or len(reader.outputs) != 1 or not reader.outputs[0].uses():
        return None
    inputs: list[ir.Value | None] | None
    if reader.domain == EDGERT and reader.op_type == "Gemm":
        inputs = [_apart(edit, view, lead), *reader.inputs[1:]] if reader.inputs[0] is view.outputs[0] else None
    else:
        inputs = _operands(edit, view, reader, lead) if kind_of(reader, edit.facts) == "elementwise" else None
    if inputs is None:
        return None
    attrs = {name: attr.value for name, attr in reader.attributes.items()}
    stem, version = str(reader.outputs[0].name), op_version(reader, edit.facts)
    made = edit.insert(reader, reader.op_type, inputs, attrs, reader.domain, stem=stem, version=version)
    shape = edit.constant("shape", np.array(edit.shape(reader.outputs[0]), np.int64))
    flat = edit.insert(reader, "Reshape", [made, shape], stem=stem)
    edit.replace(reader.outputs[0], flat)
    edit.remove(reader)
    return flat.producer()


def _operands(edit: Edit, view: ir.Node, reader: ir.Node, lead: tuple[int, ...]) -> list[ir.Value | None] | None:
    """The reader's operands ahead of the view; None where one has leading axes and no such view."""
    rank = len(edit.shape(view.outputs[0]))
    if edit.shape(reader.outputs[0]) != edit.shape(view.outputs[0]):
        return None
    inputs: list[ir.Value | None] = []
    for value in reader.inputs:
        before = value.producer() if value is not None else None
        if value is None or product(edit.shape(value)) == 1 or len(edit.shape(value)) < rank:
            inputs.append(value)
        elif before is not None and _joined(edit, before) == lead:
            inputs.append(_apart(edit, before, lead))
        else:
            return None
    return inputs
