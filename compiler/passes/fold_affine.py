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

ANCHORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


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
    """Folds `product(x) op constant` when the constant is per output channel (or one number)."""
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None:
        return False
    value, other = (a, b) if b.name in edit.facts.constants else (b, a)
    anchor, data = value.producer(), edit.const(other)
    if data is None or anchor is None or anchor.domain or anchor.op_type not in ANCHORS:
        return False
    if edit.only_use(value) is not node or (value is b and node.op_type in ("Sub", "Div")):
        return False
    places = _places(edit, anchor, value)
    weight, bias = anchor.inputs[1], anchor.inputs[2] if len(anchor.inputs) > 2 else None
    if places is None or weight is None or weight.name not in edit.facts.constants or edit.dtype(weight) != "float32":
        return False
    if bias is not None and (bias.name not in edit.facts.constants or anchor.op_type == "Gemm"):
        return False
    out_axis, axis = places
    channels, rank = edit.shape(value)[axis], len(edit.shape(value))
    if data.ndim > rank:
        return False
    full = data.reshape((1,) * (rank - data.ndim) + data.shape)
    if any(d != 1 for i, d in enumerate(full.shape) if i != axis % rank) or full.shape[axis] not in (1, channels):
        return False
    vector = np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)
    if node.op_type in ("Mul", "Div"):
        gain = vector if node.op_type == "Mul" else _inverse(vector)
        if not np.all(np.isfinite(gain)):
            return False
        wide = [1] * len(edit.shape(weight))
        wide[out_axis] = int(channels)
        made = _scaled(edit, weight, gain.reshape(wide))
        anchor.replace_input_with(1, edit.constant(str(weight.name), made, (edit.shape(weight), "float32")))
        if bias is not None:
            _set_bias(edit, anchor, np.asarray(edit.const(bias), np.float64) * gain)
    elif anchor.op_type in ("MatMul", "Gemm"):
        return False  # an addition is fused behind the product as it stands
    else:
        old = np.zeros(int(channels)) if bias is None else np.asarray(edit.const(bias), np.float64)
        _set_bias(edit, anchor, old + (vector if node.op_type == "Add" else -vector))
    edit.replace(node.outputs[0], value)
    edit.remove(node)
    return True


def _places(edit: Edit, anchor: ir.Node, value: ir.Value) -> tuple[int, int] | None:
    """The axis of the output channels in the weights and in the result; None for a form that cannot be scaled."""
    weight = anchor.inputs[1]
    if weight is None:
        return None
    if anchor.op_type == "Conv":
        axes = (0, 1)
    elif anchor.op_type == "ConvTranspose":
        axes = (1, 1)
        if int(edit.attr(anchor, "group", 1)) != 1:
            return None
    elif anchor.op_type == "Gemm":
        axes = (0 if edit.attr(anchor, "transB", 0) else 1, -1)
    else:
        axes = (1, -1)
        if len(edit.shape(weight)) != 2 or len(edit.shape(value)) < 2:
            return None
    return axes if isinstance(edit.shape(value)[axes[1]], int) else None


def _inverse(vector: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 1.0 / vector


def _set_bias(edit: Edit, anchor: ir.Node, bias: np.ndarray) -> None:
    if len(anchor.inputs) < 3:
        anchor.resize_inputs(3)
    anchor.replace_input_with(2, edit.constant(f"{anchor.outputs[0].name}.bias", bias.astype(np.float32)))


def _scaled(edit: Edit, weight: ir.Value, gain: np.ndarray) -> Callable[[], np.ndarray]:
    """Read and scaled when the weights are written, not before: a model's weights are never all in memory."""
    source = edit.facts.constants.tensor(str(weight.name))
    return lambda: (source.numpy().astype(np.float64) * gain).astype(np.float32)
