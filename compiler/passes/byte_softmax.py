"""Softmax of a DequantizeLinear takes the bytes themselves: exact sums, and the same answer on every machine."""

from __future__ import annotations

from compiler.ops.byte_softmax import MOST
from targets.target import Target

from .edit import EDGERT, Edit
from .quantization import BYTES, dequantized


def run(edit: Edit, target: Target) -> bool:
    """Softmax along the last axis, of bytes with one scale."""
    changed = False
    for node in edit.nodes("Softmax"):
        x = dequantized(edit, node.inputs[0])
        if x is None or not x.whole or x.dtype not in BYTES:
            continue
        shape = edit.shape(x.q)
        last, count = len(shape) - 1, shape[-1] if shape else 0
        if not isinstance(count, int) or not 1 <= count <= MOST or edit.attr(node, "axis", -1) % len(shape) != last:
            continue
        attrs = {"scale": float(x.scale.reshape(-1)[0])}
        made = edit.insert(node, "ByteSoftmax", [x.q], attrs, EDGERT, stem=str(node.outputs[0].name))
        edit.replace(node.outputs[0], made)
        changed = True
    return changed
