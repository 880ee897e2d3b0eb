"""Views behind a convolution sink below the element-wise operators, slices and global pools that follow, so those fuse.

A view here only adds or takes off axes of extent 1. Exporters write one-dimensional convolutions as two-dimensional
ones and take the extra axis off at once; the pass `rows` does the same.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.registry import find
from targets.kernels.tensor import Index, same_shape
from targets.target import Target

from .edit import Edit

VIEWS = {"Squeeze", "Unsqueeze", "Reshape"}
ANCHORS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization"}
POOLS = {"GlobalMaxPool", "GlobalAveragePool"}


def run(edit: Edit, target: Target) -> bool:
    """Each view as far down as it goes, below each of its readers by itself."""
    changed = False
    todo = edit.nodes(*VIEWS)
    while todo:
        view = todo.pop()
        for reader in {use.node: None for use in view.outputs[0].uses()}:
            made = _sink(edit, view, reader)
            if made is not None:
                todo.append(made)
                changed = True
    return changed


def _sink(edit: Edit, view: ir.Node, reader: ir.Node) -> ir.Node | None:
    """The view moved below `reader`; None where that cannot be."""
    x, y = view.inputs[0], view.outputs[0]
    if x is None or reader.domain or len(reader.outputs) != 1 or not reader.inputs or y.is_graph_output():
        return None
    inner, outer = edit.shape(x), edit.shape(y)
    if len(inner) != 4 or not same_shape(_long(inner), _long(outer)) or not _behind_anchor(edit, x):
        return None
    version = op_version(reader, edit.facts)
    definition = find("", reader.op_type, version)
    same_channels = len(outer) > 2 and same_shape(inner[:2], outer[:2])
    inputs: list[ir.Value | None] | None = None
    if definition is not None and definition.kind == "elementwise":
        inputs = _operands(edit, view, reader, inner, outer)
    elif same_channels and (reader.op_type in POOLS or (reader.op_type == "Slice" and _of_channels(edit, reader))):
        inputs = [x, *reader.inputs[1:]]
    back = _shape_like(edit, inner, edit.shape(reader.outputs[0]))
    if inputs is None or back is None:
        return None
    attrs = {name: attr.value for name, attr in reader.attributes.items()}
    made = edit.insert(reader, reader.op_type, inputs, attrs, version=version)
    if len(edit.shape(made)) != 4:
        return None
    stem = str(reader.outputs[0].name)
    flat = edit.insert(reader, "Reshape", [made, edit.constant("shape", np.array(back, np.int64))], stem=stem)
    if not same_shape(edit.shape(flat), edit.shape(reader.outputs[0])):
        return None
    edit.replace(reader.outputs[0], flat)
    edit.remove(reader)
    return flat.producer()


def _long(shape: tuple[Index, ...]) -> tuple[Index, ...]:
    """The dimensions that are not 1."""
    return tuple(d for d in shape if not (isinstance(d, int) and d == 1))


def _shape_like(edit: Edit, inner: tuple[Index, ...], wanted: tuple[Index, ...]) -> list[int] | None:
    """`wanted` as the constant input of a Reshape: a symbolic dimension only where it keeps its place."""
    result = []
    for i, dim in enumerate(wanted):
        if isinstance(dim, int):
            result.append(dim)
        elif i < len(inner) and same_shape((dim,), inner[i : i + 1]):
            result.append(0)
        else:
            return None
    return result


def _of_channels(edit: Edit, node: ir.Node) -> bool:
    """Whether a Slice cuts the first two axes only, at places known now."""
    given = [edit.const(v) for v in node.inputs[1:]]
    if len(given) < 3 or any(g is None for g in given):
        return False
    return all(axis in (0, 1) for axis in np.asarray(given[2]).reshape(-1).tolist())


def _behind_anchor(edit: Edit, value: ir.Value) -> bool:
    """Whether a convolution or a pool made `value`, perhaps with element-wise operators and slices behind it."""
    for _ in range(24):
        node = value.producer()
        if node is None or node.domain:
            return False
        if node.op_type in ANCHORS:
            return True
        definition = find("", node.op_type, op_version(node, edit.facts))
        if node.op_type != "Slice" and (definition is None or definition.kind != "elementwise"):
            return False
        made = [v for v in node.inputs if v is not None and v.producer() is not None]
        if not made:
            return False
        value = made[0]
    return False


def _operands(
    edit: Edit, view: ir.Node, reader: ir.Node, inner: tuple[Index, ...], outer: tuple[Index, ...]
) -> list[ir.Value | None] | None:
    """The reader's operands in the shape ahead of the view; None where one is neither constant nor such a view."""
    if not same_shape(edit.shape(reader.outputs[0]), outer):
        return None
    inputs: list[ir.Value | None] = []
    for value in reader.inputs:
        before = value.producer() if value is not None else None
        if value is None or not edit.shape(value):
            inputs.append(value)
        elif value is view.outputs[0]:
            inputs.append(view.inputs[0])
        elif value.name in edit.facts.constants:
            inputs.append(_constant(edit, value, inner, outer))
        elif before is not None and before.op_type in VIEWS and not before.domain and before.inputs[0] is not None:
            if not same_shape(edit.shape(value), outer) or not same_shape(edit.shape(before.inputs[0]), inner):
                return None
            inputs.append(before.inputs[0])
        else:
            return None
    return inputs


def _constant(edit: Edit, value: ir.Value, inner: tuple[Index, ...], outer: tuple[Index, ...]) -> ir.Value:
    """A constant that broadcasts to `outer`, so that it broadcasts to `inner` the same way."""
    array = np.asarray(edit.const(value))
    full = (1,) * (len(outer) - array.ndim) + array.shape
    long = iter([n for n, d in zip(full, outer, strict=True) if not (isinstance(d, int) and d == 1)])
    shape = [1 if isinstance(d, int) and d == 1 else next(long) for d in inner]
    return edit.constant(str(value.name), array.reshape(shape) if array.size > 1 else array.reshape(()))
