"""edgert.MatMul of two quantized values becomes a product of integers, quantized or rescaled to floats.

DequantizeLinear(a), DequantizeLinear(b) -> MatMul [-> QuantizeLinear]
becomes  MatMulInteger -> Requantize | Rescale.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.dot import dot_of
from targets.kernels.registry import templates_for
from targets.target import Target

from .edit import EDGERT, Edit
from .integer import finish
from .matmul import untransposed
from .quantization import BYTES, dequantized
from .unsigned import as_unsigned


def run(edit: Edit, target: Target) -> bool:
    """Only where the target has a kernel for it."""
    if not templates_for("edgert.MatMulInteger", target):
        return False
    return sum(_rewrite(edit, node, target) for node in edit.nodes("MatMul", domain=EDGERT)) > 0


def _rewrite(edit: Edit, node: ir.Node, target: Target) -> bool:
    a, b = dequantized(edit, node.inputs[0]), dequantized(edit, node.inputs[1])
    if a is None or b is None or edit.attr(node, "transA", 0):
        return False
    if not (a.whole and b.whole and a.dtype in BYTES and b.dtype in BYTES):
        return False
    if a.dtype == "int8" and not dot_of(target).signed_left:
        a = as_unsigned(edit, node, a)
    right, turned = untransposed(edit, b.q)  # DequantizeLinear sank below the transpose
    attrs = {
        "a_zero": int(a.zero.reshape(-1)[0]), "b_zero": int(b.zero.reshape(-1)[0]), "transA": 0,
        "transB": int(edit.attr(node, "transB", 0)) ^ turned,
    }  # fmt: skip
    acc = edit.insert(node, "MatMulInteger", [a.q, right], attrs, EDGERT, stem=str(node.outputs[0].name))
    scale = np.full(1, np.float32(a.scale.reshape(-1)[0]) * np.float32(b.scale.reshape(-1)[0]), np.float32)
    finish(edit, node, acc, np.zeros(1, np.int64), scale)
    return True
