"""The compiler's own LSTM and GRU of int16 activations and int8 weights (compiler/passes/integer_recurrent.py)."""

from __future__ import annotations

import numpy as np

from targets.kernels.recurrent_int16 import Kernel, Layer, Matrix
from targets.kernels.tensor import Tensor

from .registry import Custom, Node, Unsupported, op

REVERSE = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


def _layer(node: Node, kind: str) -> Layer:
    scales = [node.const(i) for i in (3, 4)]
    bias = node.const(5)
    if node.const(1) is None or node.const(2) is None or bias is None or any(s is None for s in scales):
        raise Unsupported("weights that are known only at run time", "constant weights")
    w, r = (Matrix(node.need(i + 1), np.asarray(s)) for i, s in enumerate(scales))
    cell = node.input(7) if kind == "LSTM" else None
    return Layer(
        kind, node.need(0), w, r, np.asarray(bias), node.input(6), cell, REVERSE[node.attr("direction", "forward")]
    )


def _custom(node: Node, kind: str) -> Custom:
    layer = _layer(node, kind)
    (steps, batch), d, h = layer.x.shape[:2], len(layer.reverse), layer.hidden
    outputs = [Tensor((steps, d, batch, h), "float32", "y"), Tensor((d, batch, h), "float32", "y_h")]
    if kind == "LSTM":
        outputs.append(Tensor((d, batch, h), "float32", "y_c"))
    wanted = [*node.outputs, False, False, False]
    inputs = tuple(t for t in node.inputs if t is not None)
    return Custom(
        outputs, lambda target, results: [Kernel(layer, results, wanted, target).stage()], inputs, macs=layer.macs()
    )  # fmt: skip


@op("LSTMInt16", domain="edgert")
def lstm_int16(node: Node) -> Custom:
    """x int16 [T, N, I], W and R int8 as ONNX's, what a step of W's and of R's sums stands for (float32 [4*H]; R's
    beside hidden states of Q15), B float32 [D, 8*H], initial_h and initial_c float32 [D, N, H]: Y, Y_h, Y_c float32.
    """
    return _custom(node, "LSTM")


@op("GRUInt16", domain="edgert")
def gru_int16(node: Node) -> Custom:
    """As LSTMInt16, of three gates, without a cell: linear_before_reset = 1."""
    return _custom(node, "GRU")
