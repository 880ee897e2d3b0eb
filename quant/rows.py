"""Activations rounded to int8 as the model runs, one scale a row."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from quant.graph import Graph

TINY = np.float32(1e-30)  # the least scale: a row of zeros has one to divide by


def int8_rows(graph: Graph, x: str, width: int) -> tuple[str, str]:
    """Add the chain from x [.., width] to q and s; their names.

        a = Abs(x)
        m = ReduceMax(a, int64 [-1], keepdims=1)         # [.., 1]
        d = Div(m, float32 127)
        s = Max(d, float32 1e-30)
        q = QuantizeLinear(x, s, axis=-1, block_size=width, output_dtype=INT8)       # no zero point

    (127 and 1e-30 are scalars.)
    """
    size = graph.add("Abs", [x], f"{x}_size")
    last = graph.add_constant(f"{x}_last_axis", np.array([-1], np.int64))
    largest = graph.add("ReduceMax", [size, last], f"{x}_largest", keepdims=1)
    step = graph.add("Div", [largest, graph.add_constant(f"{x}_127", np.float32(127))], f"{x}_step")
    scale = graph.add("Max", [step, graph.add_constant(f"{x}_tiny", TINY)], f"{x}_scale")
    codes = graph.add(
        "QuantizeLinear", [x, scale], f"{x}_int8", axis=-1, block_size=width, output_dtype=TensorProto.INT8
    )
    return codes, scale
