"""QLinearConv, QLinearMatMul and QGemm whose weights are too wide for int8: the integer operator, scaled behind it.

Between DequantizeLinear and QuantizeLinear they would be computed as floats; ConvInteger and MatMulInteger are then
split (wide_weights). The arithmetic is ONNX Runtime's: round(float32(sums + bias) * (scales / y_scale)) + zero.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .edit import Edit
from .spell import CONV, Step, attributes, given, rounded, step
from .wide_weights import split_weights


def qlinear_conv(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Scales by output channel, or one."""
    x, w, bias = node.inputs[0], node.inputs[3], given(node, 8)
    if x is None or w is None or not _wide(edit, w, given(node, 5), 0) or edit.attr(node, "channels_last", 0):
        return None
    of_x, of_w = step(edit, node, 1, 2, edit.dtype(x)), step(edit, node, 4, 5, edit.dtype(w))
    to = step(edit, node, 6, 7, edit.dtype(node.outputs[0]))
    if not (of_x.single and of_w.known and to.single):
        return None
    wide = [-1, *[1] * (len(edit.shape(w)) - 2)]
    total = _sums(edit, node, "ConvInteger", x, w, of_x, of_w)
    if bias is not None:
        shape = edit.constant("shape", np.array(wide, np.int64))
        total = edit.insert(node, "Add", [total, edit.insert(node, "Reshape", [bias, shape])])
    scale = of_x.scale * of_w.scale
    return _scaled(edit, node, total, scale.reshape(wide) if scale.ndim else scale, to)


def qlinear_matmul(edit: Edit, node: ir.Node) -> ir.Value | None:
    """By a constant matrix."""
    a, b = node.inputs[0], node.inputs[3]
    if a is None or b is None or len(edit.shape(b)) != 2 or not _wide(edit, b, given(node, 5), 1):
        return None
    of_a, of_b = step(edit, node, 1, 2, edit.dtype(a)), step(edit, node, 4, 5, edit.dtype(b))
    to = step(edit, node, 6, 7, edit.dtype(node.outputs[0]))
    if not (of_a.single and of_b.known and to.single):
        return None
    return _scaled(edit, node, _sums(edit, node, "MatMulInteger", a, b, of_a, of_b), of_a.scale * of_b.scale, to)


def qgemm(edit: Edit, node: ir.Node) -> ir.Value | None:
    """B constant, A as it lies."""
    a, b, c, y_scale = node.inputs[0], node.inputs[3], given(node, 6), given(node, 7)
    swapped = int(edit.attr(node, "transB", 0))
    if a is None or b is None or edit.attr(node, "transA", 0) or not _wide(edit, b, given(node, 5), 1 - swapped):
        return None
    of_a, of_b = step(edit, node, 1, 2, edit.dtype(a)), step(edit, node, 4, 5, edit.dtype(b))
    to = None if y_scale is None else step(edit, node, 7, 8, edit.dtype(node.outputs[0]))
    if not (of_a.single and of_b.known and (to is None or to.single)):
        return None
    if swapped:
        b = edit.constant("b", np.ascontiguousarray(np.asarray(edit.const(b)).T))
    total = _sums(edit, node, "MatMulInteger", a, b, of_a, of_b)
    if c is not None:
        total = edit.insert(node, "Add", [total, c])
    return _scaled(edit, node, total, np.float32(edit.attr(node, "alpha", 1.0)) * of_a.scale * of_b.scale, to)


def _wide(edit: Edit, w: ir.Value, zero: ir.Value | None, axis: int) -> bool:
    return split_weights(edit, w, zero, axis) is not None


def _sums(edit: Edit, node: ir.Node, op: str, x: ir.Value, w: ir.Value, of_x: Step, of_w: Step) -> ir.Value:
    zeros = [edit.constant("zero", of.zero) for of in (of_x, of_w)]
    return edit.insert(node, op, [x, w, *zeros], attributes(node, *CONV) if op == "ConvInteger" else {})


def _scaled(edit: Edit, node: ir.Node, total: ir.Value, scale: np.ndarray, to: Step | None) -> ir.Value:
    """total * (scale / to.scale) in float32; rounded to bytes where `to` says how."""
    by = np.asarray(scale if to is None else scale / to.scale, np.float32)
    real = edit.insert(node, "Cast", [total], {"to": int(ir.DataType.FLOAT)})
    value = edit.insert(node, "Mul", [real, edit.constant("multiplier", by)])
    if to is None:
        return value
    to.scale = np.ones((), np.float32)
    return rounded(edit, node, value, to)
