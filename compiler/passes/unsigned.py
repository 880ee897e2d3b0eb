"""int8 activations become uint8 with a zero point 128 higher, where the target multiplies unsigned by signed bytes;
uint8 ones become int8 where it multiplies signed bytes only.

QuantizeLinear and DequantizeLinear stand for the same numbers then; what lies between them only moves values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from targets.kernels.dot import dot_of
from targets.target import Target

from .edit import Edit
from .quantization import Quantized, dequantize, dequantized, quantize, quantizer
from .quantized_moves import MOVES

SHIFT = 128


def run(edit: Edit, target: Target) -> bool:
    """Every value of the other type that is made by a QuantizeLinear and read by nothing but DequantizeLinear.

    Probabilities stay uint8: kernels of attention know them as such.
    """
    slow = {"uint8": "int8", "int8": "uint8"}.get(dot_of(target).fastest)
    if slow is None:
        return False
    changed = False
    for node in edit.nodes("QuantizeLinear"):
        to = quantizer(edit, node)
        x = node.inputs[0]
        probable = x is not None and (maker := x.producer()) is not None and maker.op_type == "Softmax"
        if to is None or to.dtype != slow or slow == "uint8" and probable:
            continue
        if _private(edit, node.outputs[0]):
            changed |= _shift(edit, node, to)
    return changed


def shifted(of: Quantized, q: ir.Value) -> Quantized:
    """The same numbers in the other type of bytes."""
    if of.dtype == "int8":
        return replace(of, q=q, zero=of.zero + SHIFT, dtype="uint8")
    return replace(of, q=q, zero=of.zero - SHIFT, dtype="int8")


def _private(edit: Edit, value: ir.Value) -> bool:
    """Whether only DequantizeLinear reads `value`, perhaps after a move of one input."""
    if value.is_graph_output() or not value.uses():
        return False
    for use in value.uses():
        node = use.node
        if node.op_type == "DequantizeLinear" and not node.domain:
            if dequantized(edit, node.outputs[0]) is None:
                return False
        elif node.domain or node.op_type not in MOVES or use.idx != 0 or not _private(edit, node.outputs[0]):
            return False
    return True


def _shift(edit: Edit, node: ir.Node, to: Quantized) -> bool:
    x = node.inputs[0]
    assert x is not None
    out = node.outputs[0]
    _reread(edit, out, quantize(edit, node, x, shifted(to, out)))
    return True


def _reread(edit: Edit, old: ir.Value, new: ir.Value) -> None:
    """Everything that read `old` reads `new`, the same in the other type."""
    for use in list(old.uses()):
        node = use.node
        if node.op_type == "DequantizeLinear":
            of = dequantized(edit, node.outputs[0])
            assert of is not None
            edit.replace(node.outputs[0], dequantize(edit, node, new, shifted(of, new)))
        else:
            attrs = {name: attr.value for name, attr in node.attributes.items()}
            moved = edit.insert(node, node.op_type, [new, *node.inputs[1:]], attrs)
            _reread(edit, node.outputs[0], moved)


def as_unsigned(edit: Edit, before: ir.Node, of: Quantized) -> Quantized:
    """int8 values from elsewhere (an input of the model) as uint8, by arithmetic."""
    wide = edit.insert(before, "Cast", [of.q], {"to": int(ir.DataType.INT32)})
    up = edit.insert(before, "Add", [wide, edit.constant("shift", np.array(SHIFT, np.int32))])
    return shifted(of, edit.insert(before, "Cast", [up], {"to": int(ir.DataType.UINT8)}))
