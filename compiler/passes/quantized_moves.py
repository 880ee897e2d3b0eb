"""What only moves or compares values works on the integers: DequantizeLinear sinks below it.

x -> DequantizeLinear -> MaxPool becomes x -> MaxPool -> DequantizeLinear, and likewise for reshapes, transposes, slices
and concatenations, exactly. A DequantizeLinear that then meets a QuantizeLinear of the same parameters is undone by it:
(q - zero) * scale / scale rounds to q - zero for every integer of at most 16 bits.
"""

from __future__ import annotations

import onnx_ir as ir

from compiler.frontend.nodes import op_version
from targets.target import Target

from .edit import Edit
from .quantization import Quantized, dequantize, dequantized, quantize, quantizer

# operators whose first input's values come out as they are, and whose other inputs are shapes and indices
MOVES = {"MaxPool", "GlobalMaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity",
         "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Gather"}  # fmt: skip


def run(edit: Edit, target: Target) -> bool:
    """From the first node to the last, so that a chain sinks in one go."""
    changed = False
    for node in list(edit.graph):
        if node.domain or not node.outputs or str(node.outputs[0].name) not in edit.facts.values:
            continue
        if node.op_type in MOVES or node.op_type == "Resize" and edit.attr(node, "mode", "nearest") == "nearest":
            changed |= _sink(edit, node)
        elif node.op_type == "Concat":
            changed |= _concat(edit, node)
        elif node.op_type == "QuantizeLinear":
            changed |= _undo(edit, node)
    return changed


def _sink(edit: Edit, node: ir.Node) -> bool:
    source = dequantized(edit, node.inputs[0])
    used = [v for v in node.outputs if v.uses() or v.is_graph_output()]
    if source is None or not source.whole or used != [node.outputs[0]] or _constant(edit, source.q):
        return False
    if node.op_type == "MaxPool" and any(edit.attr(node, name) for name in ("ceil_mode", "storage_order")):
        return False
    attrs = {name: attr.value for name, attr in node.attributes.items()}
    # ONNX knows pools of bytes since opset 12; their meaning is the same
    version = max(op_version(node, edit.facts), 13 if node.op_type.endswith("Pool") else 1)
    moved = edit.insert(node, node.op_type, [source.q, *node.inputs[1:]], attrs, version=version)
    edit.replace(node.outputs[0], dequantize(edit, node, moved, source))
    return True


def _constant(edit: Edit, value: ir.Value) -> bool:
    return value.name in edit.facts.constants


def _concat(edit: Edit, node: ir.Node) -> bool:
    """Where the result is quantized, or all inputs have one scale, the parts are joined as integers."""
    parts = [dequantized(edit, value) for value in node.inputs]
    sources = [p for p in parts if p is not None and p.whole and not _constant(edit, p.q)]
    if len(sources) != len(parts):
        return False
    out = quantizer(edit, edit.only_use(node.outputs[0]))
    goal: Quantized = out if out is not None else sources[0]
    if out is None and not all(s.same(goal) for s in sources):
        return False
    inputs = [
        s.q if s.same(goal) else quantize(edit, node, value, goal)
        for s, value in zip(sources, node.inputs, strict=True)
        if value is not None
    ]
    joined = edit.insert(node, "Concat", inputs, {"axis": int(edit.attr(node, "axis"))})
    edit.replace(node.outputs[0], dequantize(edit, node, joined, goal))
    return True


def _undo(edit: Edit, node: ir.Node) -> bool:
    """QuantizeLinear(DequantizeLinear(q)) of the same parameters is q."""
    to, source = quantizer(edit, node), dequantized(edit, node.inputs[0])
    if to is None or source is None or not to.same(source) or _constant(edit, source.q):
        return False
    edit.replace(node.outputs[0], source.q)
    return True
