"""Requantize becomes RequantizeFixed where floats are software: integers, with the same bits (see the kernel)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.fixed_requantize import fixed
from targets.microcontroller import Microcontroller
from targets.target import Target

from .edit import EDGERT, Edit

SUMS = ("Conv2dInteger", "GemmInteger")


def run(edit: Edit, target: Target) -> bool:
    """Each requantization of sums whose largest value is known."""
    if not isinstance(target, Microcontroller) or target.fma:
        return False
    return sum(_rewrite(edit, node) for node in edit.nodes("Requantize", domain=EDGERT)) > 0


def _rewrite(edit: Edit, node: ir.Node) -> bool:
    acc, bias, factor = (edit.const(v) for v in node.inputs)
    reach = _reach(edit, node.inputs[0])
    if acc is not None or bias is None or factor is None or reach is None or not (factor >= 0).all():
        return False
    attrs = {name: attr.value for name, attr in node.attributes.items()}
    size = max(reach.size, bias.size, factor.size)
    whole = np.broadcast_to(reach, size) + np.abs(np.broadcast_to(bias.astype(np.int64), size))
    zero = int(attrs["zero"])
    # beside the multiplier a channel has its own reach; where one multiplier serves all, the largest counts
    limit = whole if factor.size == size else np.full(factor.size, whole.max(initial=0))
    made = fixed(factor.reshape(-1), int(attrs["low"]) - zero, int(attrs["high"]) - zero, limit)
    if made is None or whole.max(initial=0) >= 1 << 31:
        return False
    inputs = [*node.inputs[:2], edit.constant("factors", made.factors.reshape(factor.shape))]
    if not made.exact:
        inputs.append(node.inputs[2])
    attrs |= {"shift": made.shift, "bits": made.bits, "doubt": made.doubt}
    out = edit.insert(node, "RequantizeFixed", inputs, attrs, EDGERT)
    edit.replace(node.outputs[0], out)
    return True


def _reach(edit: Edit, acc: ir.Value | None) -> np.ndarray | None:
    """What the sums of each output channel cannot exceed; None where that is not known."""
    node = acc.producer() if acc is not None else None
    if node is None or node.domain != EDGERT or node.inputs[0] is None:
        return None
    largest = 255 if edit.dtype(node.inputs[0]) == "uint8" else 128
    if node.op_type == "SumPool2d":
        return np.array([largest * int(np.prod(edit.attr(node, "kernel_shape")))], np.int64)
    weights = edit.const(node.inputs[1]) if node.op_type in SUMS else None
    if weights is None:
        return None
    axis = 0 if node.op_type == "Conv2dInteger" or edit.attr(node, "transB", 0) else 1
    rest = tuple(a for a in range(weights.ndim) if a != axis)
    return largest * np.abs(weights.astype(np.int64)).sum(axis=rest)
