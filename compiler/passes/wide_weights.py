"""ConvInteger and MatMulInteger whose centred weights need nine bits, on kernels that take eight.

Weights quantized over an asymmetric range reach from -z to 255 - z, of which one end is no int8. With w = b - z, where
b fits int8, sum(x w) = sum(x b) - z sum(x): the second sum is the same operator with one channel of ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from .edit import Edit
from .spell import CONV, attributes, given

LOW, HIGH = -128, 127


def conv_integer(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Of one group, or a depthwise one."""
    x, w, zero = node.inputs[0], node.inputs[1], given(node, 2)
    if x is None or w is None:
        return None
    split = split_weights(edit, w, given(node, 3), 0)
    group, channels = int(edit.attr(node, "group", 1)), edit.shape(w)[0]
    if split is None or group not in (1, channels):
        return None
    weights, points = split
    ones = np.ones((group, *weights.shape[1:]), np.int8)
    wide = points.reshape(-1, *[1] * (weights.ndim - 2)) if points.ndim else points
    return _taken(edit, node, x, weights, zero, ones, wide, attributes(node, *CONV))


def matmul_integer(edit: Edit, node: ir.Node) -> ir.Value | None:
    """By a constant matrix."""
    a, b, zero = node.inputs[0], node.inputs[1], given(node, 2)
    if a is None or b is None or len(edit.shape(b)) != 2 or len(edit.shape(a)) < 2:
        return None
    split = split_weights(edit, b, given(node, 3), 1)
    if split is None:
        return None
    weights, points = split
    return _taken(edit, node, a, weights, zero, np.ones((weights.shape[0], 1), np.int8), points, {})


def _taken(
    edit: Edit, node: ir.Node, x: ir.Value, weights: np.ndarray, zero: ir.Value | None, ones: np.ndarray,
    points: np.ndarray, attrs: dict[str, Any],
) -> ir.Value:  # fmt: skip
    """The operator with int8 weights, less the zero points times the operator with ones."""
    last = [] if zero is None else [zero]
    product = edit.insert(node, node.op_type, [x, edit.constant("weights", weights), *last], attrs)
    sums = edit.insert(node, node.op_type, [x, edit.constant("ones", ones), *last], attrs)
    shift = edit.insert(node, "Mul", [sums, edit.constant("zero", points.astype(np.int32))])
    return edit.insert(node, "Sub", [product, shift], stem=str(node.outputs[0].name))


def split_weights(edit: Edit, w: ir.Value, zero: ir.Value | None, axis: int) -> tuple[np.ndarray, np.ndarray] | None:
    """int8 weights and int32 zero points (one, or one for each on `axis`) where the centred ones do not fit int8."""
    data, points = edit.const(w), edit.const(zero)
    if data is None or points is None or data.dtype not in (np.int8, np.uint8):
        return None
    if points.size not in (1, data.shape[axis]) or not points.any():
        return None
    moved = 128 if data.dtype == np.uint8 else 0
    eight = (data.astype(np.int16) - moved).astype(np.int8)
    zeros = points.astype(np.int32).reshape(() if points.size == 1 else -1) - moved
    along = [1] * data.ndim
    along[axis] = -1
    centred = eight.astype(np.int32) - (zeros.reshape(along) if zeros.ndim else zeros)
    if centred.min(initial=0) >= LOW and centred.max(initial=0) <= HIGH:
        return None
    return eight, zeros
