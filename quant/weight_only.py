"""int4 and uint4 weights in groups along the axis a product sums over; activations stay float32.

A MatMul by a constant [K, N] (a Gemm likewise) keeps its place and takes its weights from

    w = DequantizeLinear(codes int4 [K, N], scales float32 [ceil(K/G), N], axis=0, block_size=G)
    w = DequantizeLinear(codes uint4 [K, N], scales float32 [ceil(K/G), N], zeros uint4 [ceil(K/G), N],
                         axis=0, block_size=G)
    y = MatMul(x, w)

Weights of a Gemm with transB are stored [N, K]: there axis=1 and scales are [N, ceil(K/G)]. If G does not divide K, the
last block is shorter. A lookup table [V, D] has its blocks along a row: axis=1, then Gather(w, ids). A weight that
serves several nodes is stored once. At G = 32 a weight takes 5 bits (uint4: 5.125).

ONNX Runtime turns this into MatMulNBits and then, unless told otherwise, rounds the activations to int8 too: its
session setting `session.qdq_matmulnbits_accuracy_level` = 1 keeps them float32, as the model says.
"""

from __future__ import annotations

import numpy as np
import onnx

from quant.blocks import Blocks, quantize_blocks
from quant.contract import Layer, Options, Progress, Rewritten
from quant.data import Samples
from quant.graph import Graph
from quant.linear import Linear, linears, tables
from quant.rounding import Rounding
from quant.schemes import Scheme


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """4-bit weights for every product by a constant matrix and every lookup table, rounded as `options.rounding` says.

    Raises UsageError where that needs calibration data and there is none.
    """
    rounding = Rounding(model, scheme, samples, options, progress)
    graph = Graph(rounding.model)
    found, layers = linears(graph, options)
    stored: dict[tuple[str, int], str] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        dequantized = four_bit(graph, layer, rounding, stored)
        graph.replace_input(layer.node, layer.weight, dequantized)
        layers.append(Layer(layer.node.name, layer.node.op_type, scheme.name))
    layers += four_bit_tables(graph, options, rounding, stored, scheme.name)
    return Rewritten(graph.finish(), layers)


def four_bit(graph: Graph, layer: Linear, rounding: Rounding, stored: dict[tuple[str, int], str]) -> str:
    """The dequantized weights' name: a new DequantizeLinear, or one made before for the same weights."""
    key = layer.weight, layer.axis
    if key not in stored:
        blocks = rounding.blocks(layer)
        stored[key] = dequantize(graph, layer.weight, blocks, layer.axis)
    return stored[key]


def four_bit_tables(
    graph: Graph, options: Options, rounding: Rounding, stored: dict[tuple[str, int], str], scheme: str
) -> list[Layer]:
    """Give every lookup table that `options` let be quantized 4-bit rows; what was done, one entry a table."""
    layers = []
    for node in tables(graph, options):
        name = node.input[0]
        if (name, 1) not in stored:
            table = graph.constant(name)
            assert table is not None
            blocks = quantize_blocks(np.ascontiguousarray(table.T), rounding.group, rounding.symmetric)
            stored[name, 1] = dequantize(graph, name, blocks, 1)
        graph.replace_input(node, name, stored[name, 1])
        layers.append(Layer(node.name, "Gather", scheme))
    return layers


def dequantize(graph: Graph, base: str, blocks: Blocks, axis: int) -> str:
    """Store blocks of a [K, N] matrix (axis 0) or of its transpose (axis 1), and add a DequantizeLinear; its output."""
    import ml_dtypes

    symmetric = blocks.zeros is None
    dtype, kind = (ml_dtypes.int4, "int4") if symmetric else (ml_dtypes.uint4, "uint4")
    arrays = {kind: blocks.codes.astype(dtype), "scale": blocks.scales}
    if blocks.zeros is not None:
        arrays["zero"] = blocks.zeros.astype(dtype)
    inputs = [
        graph.add_constant(f"{base}_{suffix}", np.ascontiguousarray(array.T if axis else array))
        for suffix, array in arrays.items()
    ]
    return graph.add("DequantizeLinear", inputs, f"{base}_dequantized", axis=axis, block_size=blocks.group)
