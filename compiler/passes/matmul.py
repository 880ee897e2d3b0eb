"""Matrix products in the two forms that have kernels.

A constant right side is packed at compile time and the left side's leading axes are just more rows: edgert.Gemm.
Anything else is edgert.MatMul, which reads either side transposed in its last two axes, so such transposes go.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.tensor import product
from targets.target import Target

from .edit import EDGERT, Edit


def run(edit: Edit, target: Target) -> bool:
    """float32 ones; others stay as they are."""
    changed = False
    for node in edit.nodes("MatMul", "Gemm"):
        if any(v is None or edit.dtype(v) != "float32" for v in node.inputs[:2]):
            continue
        made = _gemm(edit, node) if node.op_type == "Gemm" else _matmul(edit, node)
        if made is not None:
            edit.replace(node.outputs[0], made)
            changed = True
    return changed


def _gemm(edit: Edit, node: ir.Node) -> ir.Value | None:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    alpha, beta = float(edit.attr(node, "alpha", 1.0)), float(edit.attr(node, "beta", 1.0))
    if alpha != 1.0 or not edit.is_weight(b) or edit.attr(node, "transA", 0):
        return None
    stem = str(node.outputs[0].name)
    made = edit.insert(node, "Gemm", [a, b], {"transB": int(edit.attr(node, "transB", 0))}, EDGERT, stem=stem)
    c = node.inputs[2] if len(node.inputs) > 2 else None
    if c is None or beta == 0.0:
        return made
    if beta != 1.0:
        c = edit.insert(node, "Mul", [c, edit.constant("beta", np.array(beta, np.float32))])
    return edit.insert(node, "Add", [made, c], stem=stem)


def _matmul(edit: Edit, node: ir.Node) -> ir.Value | None:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    sa, sb = edit.shape(a), edit.shape(b)
    stem = str(node.outputs[0].name)
    if edit.is_weight(b) and len(sb) == 2 and len(sa) >= 2:
        return edit.insert(node, "Gemm", [a, b], {"transB": 0}, EDGERT, stem=stem)
    if len(sa) < 2 or len(sb) < 2 or isinstance(product(sa), int) and product(sa) == 0:
        return None
    a, ta = untransposed(edit, a)
    b, tb = untransposed(edit, b)
    return edit.insert(node, "MatMul", [a, b], {"transA": ta, "transB": tb}, EDGERT, stem=stem)


def untransposed(edit: Edit, value: ir.Value) -> tuple[ir.Value, int]:
    """The value before a transpose of its last two axes, and 1; or the value itself, and 0."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or node.domain or node.inputs[0] is None:
        return value, 0
    rank = len(edit.shape(value))
    perm = edit.attr(node, "perm") or list(range(rank))[::-1]
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    return (node.inputs[0], 1) if list(perm) == swapped else (value, 0)
