"""LSTM and GRU of int16 activations and int8 weights become integer kernels.

    DequantizeLinear(x int16), DequantizeLinear(W int8), DequantizeLinear(R int8) -> LSTM | GRU
    becomes   LSTMInt16 | GRUInt16,

whose states between two steps are int16, too (TensorFlow Lite's 16x8 cells). In QDQ form they have no scale of their
own: a hidden state lies within [-1, 1] and takes 2^-15.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compiler.frontend.facts import ValueFact
from targets.kernels.recurrent_int16 import Layer, Matrix
from targets.kernels.tensor import Tensor
from targets.target import Target

from .edit import EDGERT, Edit
from .integer import centred
from .quantization import Quantized, dequantized

CELLS = {"LSTM": (4, ["sigmoid", "tanh", "tanh"]), "GRU": (3, ["sigmoid", "tanh"])}
STEP_OF_STATE = np.float32(2.0**-15)


def run(edit: Edit, target: Target) -> bool:
    """Every cell of the usual form; others stay in floats."""
    return sum(_rewrite(edit, node) for node in edit.nodes(*CELLS)) > 0


def _rewrite(edit: Edit, node: ir.Node) -> bool:
    inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
    x = dequantized(edit, inputs[0])
    if x is None or x.dtype != "int16" or not x.whole or x.zero.any() or not _usual(edit, node):
        return False
    if any(v is not None for v in (inputs[4], inputs[7])):  # lengths, peepholes
        return False
    w, r = (_weights(edit, inputs[i]) for i in (1, 2))
    directions = 2 if edit.attr(node, "direction", "forward") == "bidirectional" else 1
    if w is None or r is None:
        return False
    rows = int(edit.shape(w.q)[1])
    bias = np.zeros((directions, 2 * rows), np.float32) if inputs[3] is None else edit.const(inputs[3])
    if bias is None:
        return False
    scales = [
        np.ascontiguousarray(np.broadcast_to(one * m.scale.reshape(-1), (rows,)), np.float32)
        for one, m in ((np.float32(x.scale.reshape(-1)[0]), w), (STEP_OF_STATE, r))
    ]
    if not _fits(edit, node, w, r, scales, bias):
        return False
    made_of = [x.q, w.q, r.q, *(edit.constant("scale", s) for s in scales), edit.constant("bias", bias), inputs[5]]
    if node.op_type == "LSTM":
        made_of.append(inputs[6])
    outputs = [ir.Value(name=edit.name(str(v.name or node.op_type.lower()))) for v in node.outputs]
    attrs = {"direction": edit.attr(node, "direction", "forward")}
    made = ir.node(f"{node.op_type}Int16", made_of, attrs, domain=EDGERT, outputs=outputs, name=node.name, version=1)
    edit.graph.insert_before(node, made)
    edit.infer(made)
    for old, new in zip(node.outputs, outputs, strict=True):
        if old.name:
            edit.facts.values.setdefault(str(new.name), ValueFact(edit.shape(old), edit.dtype(old)))
            edit.replace(old, new)
    return True


def _usual(edit: Edit, node: ir.Node) -> bool:
    _, names = CELLS[node.op_type]
    given = [str(a).lower() for a in edit.attr(node, "activations") or []]
    linear = node.op_type == "LSTM" or edit.attr(node, "linear_before_reset", 0)
    plain = not any(edit.attr(node, name) for name in ("clip", "input_forget", "layout"))
    return bool(linear) and plain and given in ([], names, names * 2)


def _weights(edit: Edit, value: ir.Value | None) -> Quantized | None:
    """Constant int8 weights around 0, one scale for each row."""
    found = dequantized(edit, value)
    return None if found is None or found.q.name not in edit.facts.constants else centred(edit, found, 1)


def _fits(edit: Edit, node: ir.Node, w: Quantized, r: Quantized, scales: list, bias: np.ndarray) -> bool:
    def matrix(m: Quantized, scale: np.ndarray) -> Matrix:
        data = np.asarray(edit.const(m.q))
        return Matrix(Tensor(edit.shape(m.q), "int8", "w", data=lambda: data), scale)

    x = Tensor((1, 1, edit.shape(w.q)[2]), "int16", "x")
    return Layer(node.op_type, x, matrix(w, scales[0]), matrix(r, scales[1]), bias, None, None, []).fits()
