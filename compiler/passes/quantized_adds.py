"""Sums of two quantized tensors that are quantized again become one operator, as ONNX Runtime's QLinearAdd computes it.

Q(DQ(a) + DQ(b)) = round(a ra + b rb + fixed) with ra = sa / sy, rb = sb / sy, fixed = zy - (ra za + rb zb): two fused
multiply-adds, no division, and equal to ONNX Runtime in every bit. (QDQ as written rounds a sum of two products.)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.ops.quantize import limits
from targets.target import Target

from .edit import EDGERT, Edit
from .integer import activation
from .quantization import BYTES, Quantized, dequantized, quantizer, step_of


def run(edit: Edit, target: Target) -> bool:
    """Every Add of two bytes tensors whose only reader, past Relu or Clip, is a QuantizeLinear."""
    changed = False
    for node in edit.nodes("Add"):
        parts = [dequantized(edit, value) for value in node.inputs]
        sources = [p for p in parts if p is not None and p.whole and p.dtype in BYTES and not _constant(edit, p.q)]
        if len(sources) == 2:
            changed |= _join(edit, node, *sources)
    return changed


def _constant(edit: Edit, value: ir.Value) -> bool:
    return value.name in edit.facts.constants


def _join(edit: Edit, node: ir.Node, a: Quantized, b: Quantized) -> bool:
    low, high, last = activation(edit, node.outputs[0])
    reader = edit.only_use(last)
    to = quantizer(edit, reader)
    if to is None or reader is None:
        return False
    scale = np.float32(to.scale.reshape(-1)[0])
    first, second = (np.float32(np.float32(p.scale.reshape(-1)[0]) / scale) for p in (a, b))
    zeros = [np.float32(p.zero.reshape(-1)[0]) for p in (a, b, to)]
    # fused as ONNX Runtime's compiler fuses it: one product is not rounded by itself
    both = np.float32(float(first) * float(zeros[0]) + float(np.float32(second * zeros[1])))
    fixed = np.float32(zeros[2] - both)
    least, most = limits(to.dtype)
    attrs = {
        "ratios": [float(first), float(second)], "fixed": float(fixed), "to": to.dtype,
        "low": least if low == -np.inf else max(least, step_of(low, to)),
        "high": most if high == np.inf else min(most, step_of(high, to)),
    }  # fmt: skip
    edit.replace(reader.outputs[0], edit.insert(node, "AddQuantized", [a.q, b.q], attrs, EDGERT))
    return True
