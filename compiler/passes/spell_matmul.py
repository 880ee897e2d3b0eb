"""How quantized matrix products are written in ONNX's own operators; see spell_quantized."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .edit import Edit
from .spell import dynamic, floated, given, integer_bias, rounded, step


def matmul(edit: Edit, node: ir.Node) -> ir.Value | None:
    """QLinearMatMul with one scale for A and constant B, by column where it is."""
    a, b = node.inputs[0], node.inputs[3]
    if a is None or b is None or edit.const(b) is None:
        return None
    of_a, of_b = step(edit, node, 1, 2, edit.dtype(a)), step(edit, node, 4, 5, edit.dtype(b))
    to = step(edit, node, 6, 7, edit.dtype(node.outputs[0]))
    if not (of_a.single and of_b.known and to.single):
        return None
    reals = [floated(edit, node, a, of_a), floated(edit, node, b, of_b, len(edit.shape(b)) - 1)]
    return rounded(edit, node, edit.insert(node, "MatMul", reals), to)


def qgemm(edit: Edit, node: ir.Node) -> ir.Value | None:
    """(A' B' + C) * alpha * a_scale * b_scale: alpha goes into B's scale, C gets the product of the scales."""
    a, b, c, y_scale = node.inputs[0], node.inputs[3], given(node, 6), given(node, 7)
    if a is None or b is None or edit.const(b) is None:
        return None
    of_a, of_b = step(edit, node, 1, 2, edit.dtype(a)), step(edit, node, 4, 5, edit.dtype(b))
    to = None if y_scale is None else step(edit, node, 7, 8, edit.dtype(node.outputs[0]))
    if not (of_a.single and of_b.known and (to is None or to.single)):
        return None
    scale = np.float32(edit.attr(node, "alpha", 1.0)) * of_a.scale
    columns = 0 if edit.attr(node, "transB", 0) else 1
    c_real = None
    if c is not None:
        c_real = _gemm_bias(edit, node, c, np.asarray(scale * of_b.scale))
        if c_real is None:
            return None
    of_b.scale = np.asarray(np.float32(edit.attr(node, "alpha", 1.0)) * of_b.scale)
    reals: list[ir.Value | None] = [floated(edit, node, a, of_a), floated(edit, node, b, of_b, columns)]
    if c_real is not None:
        reals.append(c_real)
    attrs = {name: int(edit.attr(node, name, 0)) for name in ("transA", "transB")}
    out = edit.insert(node, "Gemm", reals, attrs)
    return out if to is None else rounded(edit, node, out, to)


def _gemm_bias(edit: Edit, node: ir.Node, c: ir.Value, scale: np.ndarray) -> ir.Value | None:
    """C with a scale, or one for each column; None where C has one number for them all and is no constant."""
    if scale.ndim == 0:
        return integer_bias(edit, node, c, scale, 0)
    shape = edit.shape(c)
    if shape and shape[-1] == scale.size:
        return integer_bias(edit, node, c, scale, len(shape) - 1)
    data = edit.const(c)
    if data is None:
        return None
    spread = np.broadcast_to(data, (*data.shape[:-1], scale.size))
    return integer_bias(edit, node, edit.constant("bias", spread), scale, spread.ndim - 1)


def matmul_integer_to_float(edit: Edit, node: ir.Node) -> ir.Value | None:
    """MatMulInteger -> Cast -> Mul by the scales -> Add."""
    a, b, a_scale, b_scale = node.inputs[:4]
    if a is None or b is None or a_scale is None or b_scale is None or edit.dtype(a_scale) != "float32":
        return None
    return _scaled(edit, node, [a, b, given(node, 4), given(node, 5)], a_scale, b_scale, given(node, 6))


def dynamic_matmul(edit: Edit, node: ir.Node) -> ir.Value | None:
    """DynamicQuantizeLinear, then as matmul_integer_to_float."""
    a, b, b_scale = node.inputs[:3]
    if a is None or b is None or b_scale is None:
        return None
    q, scale, zero = dynamic(edit, node, a)
    return _scaled(edit, node, [q, b, zero, given(node, 3)], scale, b_scale, given(node, 4))


def _scaled(
    edit: Edit, node: ir.Node, inputs: list[ir.Value | None], a_scale: ir.Value, b_scale: ir.Value,
    bias: ir.Value | None,
) -> ir.Value:  # fmt: skip
    while inputs[-1] is None:
        inputs.pop()
    total = edit.insert(node, "MatMulInteger", inputs)
    real = edit.insert(node, "Cast", [total], {"to": int(ir.DataType.FLOAT)})
    scale = edit.insert(node, "Mul", [a_scale, b_scale])
    out = edit.insert(node, "Mul", [real, scale])
    return out if bias is None else edit.insert(node, "Add", [out, bias])
