"""Activations that a model rounds to int8 by rows, as quant/rows.py writes it, in one pass over the row:

    s = Max(Div(ReduceMax(Abs(x), axis -1), 127), 1e-30)
    q = QuantizeLinear(x, s)            # int8, one block a row, no zero point

Products (MatMulInteger) that read q read uint8 codes with the zero point 128 where the target wants unsigned bytes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.dot import dot_of
from targets.kernels.rounding import LEAST_SCALE
from targets.kernels.row_codes import MOST
from targets.kernels.tensor import same_dim
from targets.target import Target

from .edit import EDGERT, Edit
from .rounded_rows import node_of, with_number
from .unsigned import SHIFT


def run(edit: Edit, target: Target) -> bool:
    """Every such QuantizeLinear whose codes only MatMulInteger reads, as its left side without a zero point."""
    changed = False
    for node in edit.nodes("QuantizeLinear"):
        x, scale = node.inputs[0], node.inputs[1]
        if x is None or scale is None or not _by_rows(edit, node, x) or not _is_range(edit, scale, x):
            continue
        readers = [use.node for use in node.outputs[0].uses()]
        if node.outputs[0].is_graph_output() or not all(_left_of_product(r, node.outputs[0]) for r in readers):
            continue
        zero = 0 if dot_of(target).signed_left else SHIFT
        codes, sizes = _insert(edit, node, x, zero)
        edit.replace(node.outputs[0], codes)
        edit.replace(scale, sizes)
        if zero:
            point = edit.constant("zero", np.array(zero, np.uint8))
            for reader in readers:
                reader.resize_inputs(max(3, len(reader.inputs)))
                reader.replace_input_with(2, point)
        changed = True
    return changed


def _insert(edit: Edit, node: ir.Node, x: ir.Value, zero: int) -> tuple[ir.Value, ir.Value]:
    outputs = [ir.Value(name=edit.name(stem)) for stem in ("codes", "scales")]
    # ahead of the chain that finds the scale, whose other readers follow it
    first = node_of(node_of(node_of(node_of(node.inputs[1], "Max"), "Div"), "ReduceMax"), "Abs")
    made = ir.node("RowCodes", [x], {"zero": zero}, domain=EDGERT, outputs=outputs, name=edit.name("rows"), version=1)
    edit.graph.insert_before(first or node, made)
    edit.infer(made)
    return outputs[0], outputs[1]


def _left_of_product(node: ir.Node, codes: ir.Value) -> bool:
    if node.op_type != "MatMulInteger" or node.domain or node.inputs[0] is not codes or node.inputs[1] is codes:
        return False
    return len(node.inputs) < 3 or node.inputs[2] is None


def _by_rows(edit: Edit, node: ir.Node, x: ir.Value) -> bool:
    rank, block = len(edit.shape(x)), int(edit.attr(node, "block_size", 0))
    return (
        edit.dtype(x) == "float32"
        and edit.dtype(node.outputs[0]) == "int8"
        and same_dim(edit.shape(x)[-1], block)
        and int(edit.attr(node, "axis", 1)) % rank == rank - 1
        and (len(node.inputs) < 3 or node.inputs[2] is None)
        and edit.attr(node, "precision", 0) in (0, 1)
    )


def _is_range(edit: Edit, scale: ir.Value, x: ir.Value) -> bool:
    """Whether `scale` is max(largest |x| of each row / 127, 1e-30)."""
    divided = node_of(with_number(edit, node_of(scale, "Max"), LEAST_SCALE), "Div")
    if divided is None or edit.scalar(divided.inputs[1]) != float(MOST):
        return False
    largest = node_of(divided.inputs[0], "ReduceMax")
    axes = edit.const(largest.inputs[1]) if largest is not None and len(largest.inputs) > 1 else None
    rank = len(edit.shape(x))
    if largest is None or axes is None or [int(a) % rank for a in axes.reshape(-1)] != [rank - 1]:
        return False
    size = node_of(largest.inputs[0], "Abs")
    return bool(edit.attr(largest, "keepdims", 1)) and size is not None and size.inputs[0] is x
