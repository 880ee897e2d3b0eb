"""int4x8: int4 weights in groups, activations rounded to int8 in blocks of the same size as the model runs.

A product of x [.., K] by a constant [K, N], G the group (32 unless told otherwise), becomes exactly

    b  = Reshape(x, int64 [0, .., 0, K/G, G])            # one 0 for each axis of x but the last; no allowzero
    a  = Abs(b)
    m  = ReduceMax(a, int64 [-1], keepdims=0)            # [.., K/G]
    d  = Div(m, float32 127)
    s  = Max(d, float32 1e-30)                           # so that a block of zeros has a scale to divide by
    q  = QuantizeLinear(x, s, axis=-1, block_size=G, output_dtype=INT8)      # no zero point
    x' = DequantizeLinear(q, s, axis=-1, block_size=G)
    w  = DequantizeLinear(codes int4 [K, N], scales float32 [K/G, N], axis=0, block_size=G)
    y  = MatMul(x', w)                                   # a Gemm keeps its other inputs and attributes

(constants of 127 and 1e-30 are scalars, axes a tensor of one element; for a Gemm with transB the codes are [N, K], the
scales [N, K/G], axis=1). Products of the same x share everything up to x'. Integers suffice for the sums: y[.., n] is
the sum over blocks of s[.., block] * scales[block, n] * (the int32 sum of q * codes in the block).

Where G does not divide K, or the rank of x is not known, the activations stay float32 (plain `int4`, see
`quant.weight_only`). Lookup tables get int8 rows (see `quant.embedding`). ONNX Runtime computes this in float32, or by
MatMulNBits, whose own rounding of the activations finds them rounded already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from quant.contract import Layer, Options, Progress, Rewritten
from quant.data import Samples
from quant.embedding import int8_tables
from quant.graph import Graph
from quant.linear import Linear, linears
from quant.rounding import Rounding
from quant.schemes import Scheme
from quant.weight_only import four_bit

TINY = np.float32(1e-30)


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """Quantize every product by a constant matrix as above, weights rounded as `options.rounding` says.

    Raises UsageError where that needs calibration data and there is none.
    """
    rounding = Rounding(model, scheme, samples, options, progress)
    graph = Graph(rounding.model)
    found, layers = linears(graph, options)
    stored: dict[tuple[str, int], str] = {}
    rounded: dict[str, str] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        graph.replace_input(layer.node, layer.weight, four_bit(graph, layer, rounding, stored))
        reason = _float_because(graph, layer, rounding.group)
        if not reason:
            if layer.data not in rounded:
                rounded[layer.data] = round_activations(graph, layer.data, rounding.group)
            layer.node.input[0] = rounded[layer.data]
        layers.append(Layer(layer.node.name, layer.node.op_type, "int4" if reason else scheme.name, reason))
    graph.index()
    layers += int8_tables(graph, options, scheme.name)
    return Rewritten(graph.finish(), layers)


def round_activations(graph: Graph, x: str, group: int) -> str:
    """Add the chain from x to x' above; x'."""
    shape = graph.shape(x)
    assert shape is not None and isinstance(shape[-1], int)
    blocks = np.array([0] * (len(shape) - 1) + [shape[-1] // group, group], np.int64)
    cubes = graph.add("Reshape", [x, graph.add_constant(f"{x}_block_shape", blocks)], f"{x}_blocks")
    size = graph.add("Abs", [cubes], f"{x}_size")
    last = graph.add_constant(f"{x}_last_axis", np.array([-1], np.int64))
    largest = graph.add("ReduceMax", [size, last], f"{x}_largest", keepdims=0)
    step = graph.add("Div", [largest, graph.add_constant(f"{x}_127", np.float32(127))], f"{x}_step")
    scale = graph.add("Max", [step, graph.add_constant(f"{x}_tiny", TINY)], f"{x}_scale")
    like: dict[str, Any] = dict(axis=-1, block_size=group)
    codes = graph.add("QuantizeLinear", [x, scale], f"{x}_int8", output_dtype=TensorProto.INT8, **like)
    return graph.add("DequantizeLinear", [codes, scale], f"{x}_rounded", **like)


def _float_because(graph: Graph, layer: Linear, group: int) -> str:
    shape = graph.shape(layer.data)
    if not shape or not isinstance(shape[-1], int):
        return "activations stay float32: their rank or width is not known"
    if shape[-1] % group:
        return f"activations stay float32: {group} does not divide their width, {shape[-1]}"
    return ""
