"""DynamicQuantizeLSTM: the product of all inputs with W becomes a MatMulInteger, the steps edgert.DynamicLstmSteps.

All steps' inputs share one range, so they are one matrix: with both directions' weights side by side, one product.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .edit import EDGERT, Edit
from .spell import dynamic, given

ATTRIBUTES = ("direction", "activations", "activation_alpha", "activation_beta", "clip", "input_forget")


def lstm(edit: Edit, node: ir.Node) -> list[ir.Value] | None:
    """Constant weights; where sequences have lengths of their own, inputs beyond them do not count: that stays."""
    x, w, scale, zero = (given(node, i) for i in (0, 1, 8, 9))
    data, steps, points = edit.const(w), edit.const(scale), edit.const(zero)
    if x is None or data is None or steps is None or points is None or given(node, 4) is not None:
        return None
    directions, depth, columns = data.shape
    side_by_side = np.ascontiguousarray(data.transpose(1, 0, 2)).reshape(depth, directions * columns)
    q, x_scale, x_zero = dynamic(edit, node, x)
    zeros = np.repeat(points.reshape(directions, -1)[:, 0], columns)
    total = edit.insert(
        node, "MatMulInteger", [q, edit.constant("w", side_by_side), x_zero, edit.constant("w_zero", zeros)]
    )  # fmt: skip
    real = edit.insert(node, "Cast", [total], {"to": int(ir.DataType.FLOAT)})
    by = np.broadcast_to(steps.reshape(directions, -1), (directions, columns)).reshape(-1)
    gates = edit.insert(node, "Mul", [real, edit.insert(node, "Mul", [x_scale, edit.constant("w_scale", by)])])
    rest = [given(node, i) for i in (2, 3, 5, 6, 7, 10, 11)]
    attrs = {name: node.attributes[name].value for name in ATTRIBUTES if name in node.attributes}
    outputs = [ir.Value(name=edit.name(f"{node.op_type}.{i}")) for i in range(3)]
    made = ir.node("DynamicLstmSteps", [gates, *rest], attrs, domain=EDGERT, outputs=outputs, name=node.name, version=1)
    edit.graph.insert_before(node, made)
    edit.infer(made)
    for unused, value in zip(node.outputs, made.outputs, strict=False):
        if not unused.name:
            value.name = ""
    return list(made.outputs)
