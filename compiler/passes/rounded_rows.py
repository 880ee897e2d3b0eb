"""Activations that a model rounds to int8 in blocks of each row, as quant/int4x8.py writes it:

s  = Max(Div(ReduceMax(Abs(Reshape(x, [.., K/G, G])), axis -1), 127), 1e-30)
x' = DequantizeLinear(QuantizeLinear(x, s), s)        # int8, blocks of G along the last axis, no zero point
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.rounding import LEAST_SCALE
from targets.kernels.tensor import same_dim, simplify

from .edit import EDGERT, Edit


def rounded(edit: Edit, value: ir.Value | None, block: int) -> ir.Value | None:
    """x, where `value` is x' in blocks of `block`; None for anything else."""
    back = node_of(value, "DequantizeLinear")
    forth = node_of(back.inputs[0], "QuantizeLinear") if back is not None else None
    if value is None or back is None or forth is None or len(back.inputs) > 2 and back.inputs[2] is not None:
        return None
    x, scale = forth.inputs[0], forth.inputs[1]
    if x is None or scale is None or scale is not back.inputs[1]:
        return None
    if len(forth.inputs) > 2 and forth.inputs[2] is not None:
        return None
    rank = len(edit.shape(x))
    for node in (back, forth):
        if int(edit.attr(node, "block_size", 0)) != block or int(edit.attr(node, "axis", 1)) % rank != rank - 1:
            return None
    if edit.dtype(forth.outputs[0]) != "int8" or edit.attr(forth, "precision", 0) not in (0, 1):
        return None
    return x if _is_range(edit, scale, x, block) else None


def _is_range(edit: Edit, scale: ir.Value, x: ir.Value, block: int) -> bool:
    """Whether `scale` is max(largest |x| of each block / 127, 1e-30)."""
    step = with_number(edit, node_of(scale, "Max"), LEAST_SCALE)
    divided = node_of(step, "Div")
    if divided is None or edit.scalar(divided.inputs[1]) != 127.0:
        return False
    largest = node_of(divided.inputs[0], "ReduceMax")
    axes = edit.const(largest.inputs[1]) if largest is not None and len(largest.inputs) > 1 else None
    rank = len(edit.shape(x)) + 1
    if largest is None or axes is None or [int(a) % rank for a in axes.reshape(-1)] != [rank - 1]:
        return False
    if edit.attr(largest, "keepdims", 1):
        return False
    size = node_of(largest.inputs[0], "Abs")
    cubes = size.inputs[0] if size is not None else None
    view = node_of(cubes, "Reshape")
    if cubes is None or view is None or view.inputs[0] is not x:
        return False
    wanted = (*edit.shape(x)[:-1], simplify(edit.shape(x)[-1] // block), block)
    shape = edit.shape(cubes)
    return len(shape) == rank and all(same_dim(a, b) for a, b in zip(shape, wanted, strict=True))


def quantized_rows(edit: Edit, before: ir.Node, x: ir.Value, block: int) -> list[ir.Value]:
    """The three outputs of QuantizeRows of `x`: those made before for another product, or of a new node."""
    for use in x.uses():
        if use.node.op_type == "QuantizeRows" and use.node.domain == EDGERT and edit.attr(use.node, "block") == block:
            return list(use.node.outputs)
    names = [edit.name(f"{x.name}.{part}") for part in ("codes", "scales", "offsets")]
    outputs = [ir.Value(name=name) for name in names]
    node = ir.node("QuantizeRows", [x], {"block": block}, domain=EDGERT, outputs=outputs, name=names[0], version=1)
    maker = x.producer()
    if maker is not None:
        edit.graph.insert_after(maker, node)
    else:
        first = next(iter(edit.graph))
        edit.graph.insert_before(first, node)
    edit.infer(node)
    return outputs


def node_of(value: ir.Value | ir.Node | None, op: str) -> ir.Node | None:
    """The node of that operator that makes `value`, or the first input of a node; None for any other."""
    value = value.inputs[0] if isinstance(value, ir.Node) else value
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op and not node.domain else None


def with_number(edit: Edit, node: ir.Node | None, number: float) -> ir.Value | None:
    """The other operand of a node whose one operand is that number."""
    if node is None or len(node.inputs) != 2:
        return None
    for value, constant in (node.inputs, node.inputs[::-1]):
        found = edit.scalar(constant)
        if found is not None and np.float32(found) == np.float32(number):
            return value
    return None
