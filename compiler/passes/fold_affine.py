"""Scales and shifts after a convolution or a matrix product move into its weights and bias.

BatchNormalization (inference) is y = scale / sqrt(var + eps) * (x - mean) + b, per channel (ONNX
BatchNormalization-15): first it becomes a multiplication and an addition, then both fold like any written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Until nothing folds any more: a scale may stand behind a shift."""
    changed = False
    for node in edit.nodes("BatchNormalization"):
        changed |= _spell_out(edit, node)
    again = True
    while again:
        again = sum(_fold(edit, node) for node in edit.nodes("Mul", "Add", "Sub", "Div")) > 0
        changed |= again
    return changed


def _spell_out(edit: Edit, node: ir.Node) -> bool:
    used = [v for v in node.outputs if v.uses() or v.is_graph_output()]
    if edit.attr(node, "training_mode", 0) or used != [node.outputs[0]]:
        return False
    x = node.inputs[0]
    arrays = [edit.const(v) for v in node.inputs[1:5]]
    if x is None or any(a is None for a in arrays) or edit.dtype(x) != "float32":
        return False
    scale, shift, mean, var = (a.astype(np.float64) for a in arrays if a is not None)
    gain = scale / np.sqrt(var + float(edit.attr(node, "epsilon", 1e-5)))
    wide = (-1,) + (1,) * (len(edit.shape(x)) - 2)
    factor = edit.constant("bn.gain", gain.astype(np.float32).reshape(wide))
    offset = edit.constant("bn.shift", (shift - mean * gain).astype(np.float32).reshape(wide))
    scaled = edit.insert(node, "Mul", [x, factor])
    edit.replace(node.outputs[0], edit.insert(node, "Add", [scaled, offset]))
    edit.remove(node)
    return True


def _fold(edit: Edit, node: ir.Node) -> bool:
    """Folds `conv(x) op constant` when the constant is per channel (or one number)."""
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None:
        return False
    value, other = (a, b) if b.name in edit.facts.constants else (b, a)
    conv, data = value.producer(), edit.const(other)
    if data is None or conv is None or conv.op_type not in ("Conv", "ConvTranspose") or conv.domain:
        return False
    if edit.only_use(value) is not node or (value is b and node.op_type in ("Sub", "Div")):
        return False
    weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
    if weight is None or weight.name not in edit.facts.constants or edit.dtype(weight) != "float32":
        return False
    rank = len(edit.shape(value))
    out_axis = 0 if conv.op_type == "Conv" else 1
    group = int(edit.attr(conv, "group", 1))
    channels = edit.shape(value)[1]
    if not isinstance(channels, int) or (out_axis == 1 and group != 1):
        return False
    full = data.reshape((1,) * (rank - data.ndim) + data.shape) if data.ndim <= rank else data
    if any(d != 1 for i, d in enumerate(full.shape) if i != 1) or full.shape[1] not in (1, channels):
        return False
    vector = np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)
    if bias is not None and bias.name not in edit.facts.constants:
        return False
    old = np.zeros(channels) if bias is None else np.asarray(edit.const(bias), np.float64)
    if node.op_type in ("Add", "Sub"):
        new_bias, gain = old + (vector if node.op_type == "Add" else -vector), None
    else:
        gain = vector if node.op_type == "Mul" else 1.0 / vector
        if not np.all(np.isfinite(gain)):
            return False
        new_bias = old * gain
    if gain is not None:
        wide = [1] * len(edit.shape(weight))
        wide[out_axis] = channels
        conv.replace_input_with(1, edit.constant(str(weight.name), _scaled(edit, weight, gain.reshape(wide)),
                                                 (edit.shape(weight), "float32")))  # fmt: skip
    bias_value = edit.constant(f"{weight.name}.bias", new_bias.astype(np.float32))
    if len(conv.inputs) < 3:
        conv.resize_inputs(3)
    conv.replace_input_with(2, bias_value)
    edit.replace(node.outputs[0], value)
    edit.remove(node)
    return True


def _scaled(edit: Edit, weight: ir.Value, gain: np.ndarray) -> Callable[[], np.ndarray]:
    """Read and scaled when the weights are written, not before: a model's weights are never all in memory."""
    source = edit.facts.constants.tensor(str(weight.name))
    return lambda: (source.numpy().astype(np.float64) * gain).astype(np.float32)
