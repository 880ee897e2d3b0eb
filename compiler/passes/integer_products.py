"""MatMulInteger and ConvInteger with constant weights become the compiler's integer operators; dynamic quantization.

(a - za)(b - zb) summed: b is centred at compile time, and za * sum(b) is taken off the sums of a * b; za may be known
only at run time (DynamicQuantizeLinear).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.dot import dot_of
from targets.kernels.tensor import product
from targets.target import Target

from .edit import EDGERT, Edit
from .integer import centred
from .quantization import BYTES, Quantized
from .unsigned import SHIFT, as_unsigned


def run(edit: Edit, target: Target) -> bool:
    """Every MatMulInteger whose right side is constant. (ConvInteger: see layout.)"""
    changed = False
    for node in edit.nodes("MatMulInteger"):
        made = _product(edit, node, dot_of(target).signed_left)
        if made is not None:
            edit.replace(node.outputs[0], made)
            changed = True
    return changed


def _product(edit: Edit, node: ir.Node, signed: bool) -> ir.Value | None:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    weights = constant_weights(edit, b, node.inputs[3] if len(node.inputs) > 3 else None, 1)
    if weights is None or len(edit.shape(b)) != 2 or len(edit.shape(a)) < 2 or edit.dtype(a) not in BYTES:
        return None
    if zero is not None and product(edit.shape(zero)) != 1:
        return None
    a, offset = left_side(edit, node, a, zero, signed)
    sums = np.asarray(edit.const(weights)).astype(np.int32).sum(axis=0, dtype=np.int32)
    acc = edit.insert(node, "GemmInteger", [a, weights], {"transB": 0}, EDGERT, stem=str(node.outputs[0].name))
    return corrected(edit, node, acc, offset, sums)


def constant_weights(edit: Edit, w: ir.Value, zero: ir.Value | None, axis: int) -> ir.Value | None:
    """Constant weights as int8 around zero, where they fit; their zero points are one, or one for each on `axis`."""
    points = edit.const(zero)
    if w.name not in edit.facts.constants or (zero is not None and points is None) or edit.dtype(w) not in BYTES:
        return None
    zeros = np.zeros((), np.int64) if points is None else points.astype(np.int64)
    if zeros.size not in (1, edit.shape(w)[axis]):
        return None
    scale = np.ones(zeros.size, np.float32)
    found = centred(edit, Quantized(w, scale, zeros.reshape(-1), edit.dtype(w), axis), axis)
    return None if found is None else found.q


def left_side(
    edit: Edit, node: ir.Node, a: ir.Value, zero: ir.Value | None, signed: bool
) -> tuple[ir.Value, ir.Value | None]:
    """The left side as the kernels take it, and its zero point as int32 (None: 0)."""
    wide = None if zero is None else edit.insert(node, "Cast", [zero], {"to": int(ir.DataType.INT32)})
    if edit.dtype(a) == "uint8" or signed:
        return a, wide
    one = np.ones(1, np.float32)
    moved = as_unsigned(edit, node, Quantized(a, one, np.zeros(1, np.int64), "int8", 0))
    shift = edit.constant("shift", np.array(SHIFT, np.int32))
    return moved.q, shift if wide is None else edit.insert(node, "Add", [wide, shift])


def corrected(edit: Edit, node: ir.Node, acc: ir.Value, zero: ir.Value | None, sums: np.ndarray) -> ir.Value:
    """acc - zero * sums, over the last axis."""
    if zero is None or edit.scalar(zero) == 0.0:
        return acc
    taken = edit.insert(node, "Mul", [edit.constant("sums", sums.astype(np.int32)), zero])
    return edit.insert(node, "Sub", [acc, taken], stem=str(node.outputs[0].name))
