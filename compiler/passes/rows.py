"""Convolutions and pools over one axis work along rows: [N, C, L] and [N, C, H, 1] are seen as [N, C, 1, H].

Two-dimensional kernels then serve them, and vectors run along the row. The views this takes cost nothing; those between
neighbours cancel (merge_views), the others sink (sink_views).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from targets.target import Target

from .edit import Edit

PER_AXIS = ("strides", "dilations", "kernel_shape")


def run(edit: Edit, target: Target) -> bool:
    """Each convolution with constant weights, and each pool."""
    changed = 0
    for node in edit.nodes("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
        x, used = node.inputs[0], [v for v in node.outputs if v.uses() or v.is_graph_output()]
        if x is None or "output_shape" in node.attributes or used != [node.outputs[0]]:
            continue
        if "Conv" in node.op_type and not _takes(edit, node.inputs[1]):
            continue
        rank = len(edit.shape(x))
        if rank == 3:
            _write(edit, node, x, None)
            changed += 1
        elif rank == 4 and _is_column(edit, node, x):
            _write(edit, node, x, 3)
            changed += 1
    return changed > 0


def _takes(edit: Edit, weight: ir.Value | None) -> bool:
    """Constants, also behind a DequantizeLinear that is not blocked."""
    source = weight.producer() if weight is not None else None
    return edit.is_weight(weight) and (source is None or not edit.attr(source, "block_size", 0))


def _is_column(edit: Edit, node: ir.Node, x: ir.Value) -> bool:
    """Whether a convolution or pool runs along the height of images of width 1, and leaves the width 1."""
    height, width = edit.shape(x)[2:]
    if not isinstance(width, int) or width != 1 or (isinstance(height, int) and height == 1):
        return False
    kernel = edit.shape(node.inputs[1])[2:] if "Conv" in node.op_type else edit.attr(node, "kernel_shape")  # type: ignore[arg-type]
    pads, extra = list(edit.attr(node, "pads", [0] * 4)), list(edit.attr(node, "output_padding", [0, 0]))
    return kernel[1] == 1 and not pads[1] and not pads[3] and not extra[1] and edit.shape(node.outputs[0])[3] == 1


def _write(edit: Edit, node: ir.Node, x: ir.Value, width: int | None) -> None:
    """The node on rows. width: the axis of extent 1 that the height changes places with; None where there is none."""
    flat = x if width is None else _view(edit, node, "Squeeze", x, width)
    inputs: list[ir.Value | None] = [_view(edit, node, "Unsqueeze", flat, 2), *node.inputs[1:]]
    if "Conv" in node.op_type:
        inputs[1] = _row_of(edit, node.inputs[1], width)  # type: ignore[arg-type]
    attrs = {name: attr.value for name, attr in node.attributes.items()}
    for name in PER_AXIS:
        if name in attrs:
            attrs[name] = [1, attrs[name][0]]
    if "pads" in attrs:
        half = len(attrs["pads"]) // 2
        attrs["pads"] = [0, attrs["pads"][0], 0, attrs["pads"][half]]
    if "output_padding" in attrs:
        attrs["output_padding"] = [0, attrs["output_padding"][0]]
    version, stem = op_version(node, edit.facts), str(node.outputs[0].name)
    made = _view(edit, node, "Squeeze", edit.insert(node, node.op_type, inputs, attrs, version=version, stem=stem), 2)
    edit.replace(node.outputs[0], made if width is None else _view(edit, node, "Unsqueeze", made, width))


def _view(edit: Edit, before: ir.Node, op: str, x: ir.Value, axis: int) -> ir.Value:
    return edit.insert(before, op, [x, edit.constant("axes", np.array([axis], np.int64))])


def _row_of(edit: Edit, weight: ir.Value, width: int | None) -> ir.Value:
    """Weights [M, C, K] or [M, C, K, 1] as [M, C, 1, K]: the same numbers in order, read when they are needed."""
    source = weight.producer()
    if source is not None and source.inputs[0] is not None:  # integers behind a DequantizeLinear, whose axis is M or C
        inputs = [_row_of(edit, source.inputs[0], width), *source.inputs[1:]]
        return edit.insert(source, source.op_type, inputs, {"axis": int(edit.attr(source, "axis", 1))})
    m, c, k = edit.shape(weight)[:3]
    data = edit.facts.constants.tensor(str(weight.name))
    shape = (int(m), int(c), 1, int(k))
    return edit.constant(f"{weight.name}.row", lambda: data.numpy().reshape(shape), (shape, edit.dtype(weight)))
