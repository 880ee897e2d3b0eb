"""A transposed convolution with few outputs whose windows do not overlap becomes a 1x1 convolution and a shuffle.

With kernel = stride every output position belongs to one window, so the kernel's positions are just more output
channels (as in ESPCN's sub-pixel convolution, arXiv:1609.05158, read backwards). One matrix product then fills the
vectors that each position alone, with a channel or two, would leave empty.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Rewrites ConvTranspose nodes with fewer output channels than a vector holds."""
    changed = False
    for node in edit.nodes("ConvTranspose"):
        made = _shuffled(edit, node, target.lanes("float32"))
        if made is not None:
            edit.replace(node.outputs[0], made)
            changed = True
    return changed


def _shuffled(edit: Edit, node: ir.Node, lanes: int) -> ir.Value | None:
    x, w = node.inputs[0], node.inputs[1]
    if x is None or w is None or w.name not in edit.facts.constants or len(edit.shape(x)) != 4:
        return None
    channels, out, kh, kw = (int(d) for d in edit.shape(w))
    plain = {"auto_pad": "NOTSET", "group": 1, "pads": [0] * 4, "dilations": [1, 1], "output_padding": [0, 0]}
    if any(_listed(edit.attr(node, name, value)) != value for name, value in plain.items()):
        return None
    strides = _listed(edit.attr(node, "strides", [1, 1]))
    size = edit.shape(x)[2:]
    if strides != [kh, kw] or kh * kw == 1 or out >= lanes or edit.attr(node, "output_shape"):
        return None
    if edit.dtype(x) != "float32" or not all(isinstance(d, int) for d in size):
        return None
    tensor, stem = edit.facts.constants.tensor(str(w.name)), str(node.outputs[0].name)
    mixed = edit.constant(
        f"{w.name}.mixed",
        lambda: tensor.numpy().transpose(1, 2, 3, 0).reshape(out * kh * kw, channels, 1, 1),
        ((out * kh * kw, channels, 1, 1), "float32"),
    )
    made = edit.insert(node, "Conv", [x, mixed], {"kernel_shape": [1, 1]}, stem=stem)
    height, width = int(size[0]), int(size[1])
    # [N, O*kH*kW, H, W] -> [N, O, H*kH, W*kW]
    made = _seen(edit, node, made, [0, out, kh, kw, height, width])
    made = edit.insert(node, "Transpose", [made], {"perm": [0, 1, 4, 2, 5, 3]})
    made = _seen(edit, node, made, [0, out, height * kh, width * kw])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return made
    axes = edit.constant("axes", np.array([1, 2], np.int64))
    return edit.insert(node, "Add", [made, edit.insert(node, "Unsqueeze", [bias, axes])], stem=stem)


def _seen(edit: Edit, node: ir.Node, x: ir.Value, shape: list[int]) -> ir.Value:
    return edit.insert(node, "Reshape", [x, edit.constant("shape", np.array(shape, np.int64))])


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple | list) else value
