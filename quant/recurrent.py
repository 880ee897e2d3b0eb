"""LSTM and GRU in 16x8 form: int8 weights with one scale for each row of a gate, int16 inputs; biases stay float32."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from quant.affine import best_channel_scales, encode_channels
from quant.graph import Graph, attribute

CELLS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def refusal(graph: Graph, node: NodeProto) -> str | None:
    """Why a cell stays float32, or None."""
    inputs = [*node.input, *[""] * (8 - len(node.input))]
    weights = [graph.constant(name) for name in inputs[1:3]]
    if any(w is None for w in weights) or inputs[3] and graph.constant(inputs[3]) is None:
        return "weights are not constant"
    if graph.dtype(inputs[0]) != TensorProto.FLOAT or inputs[0] in graph.initializers:
        return "not float32, or of unknown type"
    if not all(np.isfinite(w).all() for w in weights if w is not None):
        return "weights are not finite"
    if inputs[4] or inputs[7]:
        return "sequence lengths and peepholes have no integer kernel"
    names = CELLS[node.op_type]
    given = [a.decode() if isinstance(a, bytes) else a for a in attribute(node, "activations") or names]
    if given not in (names, names * 2) or any(attribute(node, a) for a in ("clip", "input_forget", "layout")):
        return "clipped or coupled gates, other activations and batches first have no integer kernel"
    if node.op_type == "GRU" and not attribute(node, "linear_before_reset", 0):
        return "a reset gate ahead of the product has no integer kernel (linear_before_reset = 0)"
    return None


def quantize_weights(graph: Graph, node: NodeProto) -> None:
    """W and R [D, gates * H, K] of a cell as int8, a scale for each row; both directions share it."""
    for i in (1, 2):
        base = node.input[i]
        weights = graph.constant(base)
        assert weights is not None
        scales = best_channel_scales(weights, 1)
        parts = [
            graph.add_constant(f"{base}_q", encode_channels(weights, scales, 1)),
            graph.add_constant(f"{base}_scale", scales),
            graph.add_constant(f"{base}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        node.input[i] = graph.add("DequantizeLinear", parts, f"{base}_dq", axis=1)
