"""int8-dynamic: int8 weights with a scale a column, activations made uint8 as the model runs (one range a tensor).

A product by a constant matrix, y = x W (+ b), becomes

    q, s, z = DynamicQuantizeLinear(x)                   # uint8 [.., K], float32 [], uint8 []
    n       = MatMulInteger(q, codes int8 [K, N], z)     # int32 [.., N]; no zero point for the weights
    f       = Cast(n, to FLOAT)
    t       = Mul(s, scales float32 [N])
    y       = Mul(f, t)                                  # the bias, if any, is added as before: Add(y, b)

which ONNX Runtime fuses (MatMulIntegerToFloat, DynamicQuantizeMatMul). Products of the same x share one
DynamicQuantizeLinear. Gemm is taken apart: alpha goes into the scales, beta into the bias. Convolutions stay float32;
lookup tables get int8 rows (see `quant.embedding`).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from quant.blocks import per_column
from quant.contract import Layer, Options, Progress, Rewritten
from quant.data import Samples
from quant.embedding import int8_tables
from quant.graph import Graph, attribute
from quant.linear import Linear, linears, replace
from quant.schemes import Scheme


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """Quantize every product by a constant matrix and every lookup table. Needs no calibration data."""
    graph = Graph(model)
    found, layers = linears(graph, options)
    shared: dict[str, tuple[str, str, str]] = {}
    weights: dict[tuple[str, bool, float], tuple[str, str]] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        if layer.data not in shared:
            q = graph.add("DynamicQuantizeLinear", [layer.data], f"{layer.data}_uint8", outputs=3)
            _, scale, zero = graph.producer[q].output
            shared[layer.data] = q, scale, zero
        alpha = float(attribute(layer.node, "alpha", 1.0))
        key = layer.weight, layer.transposed, alpha
        if key not in weights:
            codes, scales = per_column(layer.matrix)
            columns = graph.add_constant(f"{layer.weight}_scale", scales * np.float32(alpha))
            weights[key] = graph.add_constant(f"{layer.weight}_int8", np.ascontiguousarray(codes)), columns
        q, scale, zero = shared[layer.data]
        codes_name, columns = weights[key]
        base = layer.node.output[0]
        sums = graph.add("MatMulInteger", [q, codes_name, zero], f"{base}_int32")
        real = graph.add("Cast", [sums], f"{base}_sums", to=TensorProto.FLOAT)
        factor = graph.add("Mul", [scale, columns], f"{base}_scale")
        finish_product(graph, layer, graph.add("Mul", [real, factor], f"{base}_scaled"))
        layers.append(Layer(layer.node.name, layer.node.op_type, scheme.name))
    layers += int8_tables(graph, options, scheme.name)
    return Rewritten(graph.finish(), layers)


def finish_product(graph: Graph, layer: Linear, product: str) -> None:
    """Put `product`, x W without what a Gemm adds, in the place of the layer's node."""
    node = layer.node
    if len(node.input) > 2 and node.input[2]:
        beta = np.float32(attribute(node, "beta", 1.0))
        added = node.input[2]
        if beta != 1:
            constant = graph.constant(added)
            if constant is not None:
                added = graph.add_constant(f"{added}_beta", constant * beta)
            else:
                added = graph.add("Mul", [added, graph.add_constant(f"{added}_beta", beta)], f"{added}_scaled")
        product = graph.add("Add", [product, added], f"{node.output[0]}_sum")
    replace(graph, node, product)
