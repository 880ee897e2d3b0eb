"""Squeezes behind a convolution sink below the element-wise operators and global pools that follow, so that those fuse.

Exporters write one-dimensional convolutions as two-dimensional ones and take the extra axis off at once.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.registry import find
from targets.target import Target

from .edit import Edit

ANCHORS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization"}
POOLS = {"GlobalMaxPool", "GlobalAveragePool"}


def run(edit: Edit, target: Target) -> bool:
    """Each Squeeze as far down as it goes."""
    changed = False
    todo = edit.nodes("Squeeze")
    while todo:
        node = todo.pop()
        made = _sink(edit, node) if node.outputs[0].uses() else None
        if made is not None:
            todo.append(made)
            changed = True
    return changed


def _sink(edit: Edit, squeeze: ir.Node) -> ir.Node | None:
    """The Squeeze moved below its one reader; None where that cannot be."""
    x, reader = squeeze.inputs[0], edit.only_use(squeeze.outputs[0])
    if x is None or reader is None or reader.domain or len(reader.outputs) != 1 or not _behind_anchor(edit, x):
        return None
    axes = _axes(edit, squeeze)
    rank = len(edit.shape(x))
    if axes is None or min(axes) < 2 or rank != 4:
        return None
    version = op_version(reader, edit.facts)
    attrs = {name: attr.value for name, attr in reader.attributes.items()}
    inputs: list[ir.Value | None] = []
    definition = find("", reader.op_type, version)
    if reader.op_type not in POOLS and (definition is None or definition.kind != "elementwise"):
        return None
    for value in reader.inputs:
        if value is squeeze.outputs[0]:
            inputs.append(x)
        elif value is None or not edit.shape(value):
            inputs.append(value)
        else:
            wide = _with_axes(edit, value, axes, rank)
            if wide is None:
                return None
            inputs.append(wide)
    made = edit.insert(reader, reader.op_type, inputs, attrs, version=version)
    if len(edit.shape(made)) != rank:
        return None
    flat = edit.insert(
        reader, "Squeeze", [made, edit.constant("axes", np.array(axes, np.int64))], stem=str(reader.outputs[0].name)
    )
    edit.replace(reader.outputs[0], flat)
    edit.remove(reader)
    edit.remove(squeeze)
    return flat.producer()


def _behind_anchor(edit: Edit, value: ir.Value) -> bool:
    """Whether a convolution or a pool made `value`, perhaps with element-wise operators behind it."""
    for _ in range(16):
        node = value.producer()
        if node is None or node.domain:
            return False
        if node.op_type in ANCHORS:
            return True
        definition = find("", node.op_type, op_version(node, edit.facts))
        if definition is None or definition.kind != "elementwise" or node.inputs[0] is None:
            return False
        value = next((v for v in node.inputs if v is not None and v.producer() is not None), node.inputs[0])
    return False


def _axes(edit: Edit, squeeze: ir.Node) -> list[int] | None:
    axes = edit.attr(squeeze, "axes")
    if axes is None and len(squeeze.inputs) > 1 and squeeze.inputs[1] is not None:
        given = edit.const(squeeze.inputs[1])
        axes = None if given is None else given.tolist()
    x = squeeze.inputs[0]
    return None if axes is None or x is None else sorted(a % len(edit.shape(x)) for a in axes)


def _with_axes(edit: Edit, value: ir.Value, axes: list[int], rank: int) -> ir.Value | None:
    """A constant with axes of 1 where the Squeeze took them off."""
    if value.name not in edit.facts.constants:
        return None
    array = np.asarray(edit.const(value))
    if array.size == 1:
        return edit.constant(str(value.name), array.reshape(()))
    full = array.reshape((1,) * (rank - len(axes) - array.ndim) + array.shape)
    return edit.constant(str(value.name), np.expand_dims(full, tuple(axes)))
