"""Scales and shifts ahead of a convolution move into its weights and bias: conv(g x + b) = conv'(x) + the sum of w b.

A shift only where nothing is padded: the padding is zero before the shift, not after it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Until nothing moves any more: a shift lies behind a scale."""
    changed = False
    while any([_fold(edit, node) for node in edit.nodes("Conv")]):  # noqa: C419 (every one of them, not up to the first)
        changed = True
    return changed


def _fold(edit: Edit, conv: ir.Node) -> bool:
    x, weight = conv.inputs[0], conv.inputs[1]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    node = x.producer() if x is not None else None
    if x is None or weight is None or node is None or node.domain or node.op_type not in ("Mul", "Add"):
        return False
    if edit.only_use(x) is None or edit.dtype(x) != "float32" or weight.name not in edit.facts.constants:
        return False
    if bias is not None and bias.name not in edit.facts.constants:
        return False
    if node.op_type == "Add" and not _unpadded(edit, conv):
        return False
    for value, other in (node.inputs, node.inputs[::-1]):
        numbers = _per_channel(edit, value, other)
        if numbers is not None and value is not None:
            conv.replace_input_with(0, value)
            edit.remove(node)
            _into_weights(edit, conv, weight, bias, node.op_type, numbers)
            return True
    return False


def _unpadded(edit: Edit, conv: ir.Node) -> bool:
    return edit.attr(conv, "auto_pad", "NOTSET") in ("NOTSET", "VALID", "") and not any(edit.attr(conv, "pads", []))


def _per_channel(edit: Edit, value: ir.Value | None, other: ir.Value | None) -> np.ndarray | None:
    """The constant `other` as one number a channel of `value` (float64); None where it is no such thing."""
    data = edit.const(other)
    if data is None or value is None or other is None:
        return None
    shape = edit.shape(value)
    if len(shape) < 3 or not isinstance(shape[1], int) or data.ndim > len(shape):
        return None
    full = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if any(d != 1 for i, d in enumerate(full.shape) if i != 1) or full.shape[1] not in (1, shape[1]):
        return None
    return np.broadcast_to(full.reshape(-1), (shape[1],)).astype(np.float64)


def _into_weights(
    edit: Edit, conv: ir.Node, weight: ir.Value, bias: ir.Value | None, op: str, numbers: np.ndarray
) -> None:  # fmt: skip
    shape, source = edit.shape(weight), edit.facts.constants.tensor(str(weight.name))
    outputs, group = int(shape[0]), int(edit.attr(conv, "group", 1))
    # input channel c of output m is channel (m // (outputs / group)) * inputs + c of x
    own = np.repeat(numbers.reshape(group, -1), outputs // group, axis=0)
    wide = own.reshape(*own.shape, *(1,) * (len(shape) - 2))
    if op == "Mul":
        scaled = edit.constant(
            str(weight.name), lambda: (source.numpy().astype(np.float64) * wide).astype(np.float32), (shape, "float32")
        )
        conv.replace_input_with(1, scaled)
        return
    added = (source.numpy().astype(np.float64) * wide).reshape(outputs, -1).sum(axis=1)
    old = np.zeros(outputs) if bias is None else np.asarray(edit.const(bias), np.float64)
    if len(conv.inputs) < 3:
        conv.resize_inputs(3)
    conv.replace_input_with(2, edit.constant(f"{weight.name}.bias", (old + added).astype(np.float32)))
