"""int8-dynamic: int8 weights with a scale a column, activations made 8-bit as the model runs.

A product by a constant matrix, y = x W (+ b), becomes, where the scheme has one range a tensor,

    q, s, z = DynamicQuantizeLinear(x)                   # uint8 [.., K], float32 [], uint8 []
    n       = MatMulInteger(q, codes int8 [K, N], z)     # int32 [.., N]; no zero point for the weights
    f       = Cast(n, to FLOAT)
    t       = Mul(s, scales float32 [N])
    y       = Mul(f, t)                                  # the bias, if any, is added as before: Add(y, b)

which ONNX Runtime fuses (MatMulIntegerToFloat, DynamicQuantizeMatMul); and, where it has one scale a row (nearer to
float32, as one large value spoils only its own row),

    q, s = `quant.rows` of x                             # int8 [.., K], float32 [.., 1]
    n    = MatMulInteger(q, codes int8 [K, N])           # int32 [.., N]; no zero points
    f    = Cast(n, to FLOAT)
    t    = Mul(f, s)
    y    = Mul(t, scales float32 [N])

Products of the same x share q and s. Gemm is taken apart: alpha goes into the scales, beta into the bias. Convolutions
stay float32; lookup tables get int8 rows (see `quant.embedding`).
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
from quant.rows import int8_rows
from quant.schemes import Scheme


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """Quantize every product by a constant matrix and every lookup table. Needs no calibration data."""
    by_row = scheme.activations is not None and scheme.activations.per == "row"
    graph = Graph(model)
    found, layers = linears(graph, options)
    rounded: dict[str, tuple[str, str]] = {}
    weights: dict[tuple[str, bool, float], tuple[str, str]] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        if layer.data not in rounded:
            rounded[layer.data] = int8_rows(graph, layer.data, len(layer.matrix)) if by_row else _whole(graph, layer)
        alpha = float(attribute(layer.node, "alpha", 1.0))
        key = layer.weight, layer.transposed, alpha
        if key not in weights:
            codes, scales = per_column(layer.matrix)
            columns = graph.add_constant(f"{layer.weight}_scale", scales * np.float32(alpha))
            weights[key] = graph.add_constant(f"{layer.weight}_int8", np.ascontiguousarray(codes)), columns
        product = (_by_row if by_row else _by_tensor)(graph, layer.node.output[0], rounded[layer.data], weights[key])
        finish_product(graph, layer, product)
        layers.append(Layer(layer.node.name, layer.node.op_type, scheme.name))
    layers += int8_tables(graph, options, scheme.name)
    return Rewritten(graph.finish(), layers)


def _whole(graph: Graph, layer: Linear) -> tuple[str, str]:
    """One range for the whole of a product's input: the names of the codes and their scale."""
    codes = graph.add("DynamicQuantizeLinear", [layer.data], f"{layer.data}_uint8", outputs=3)
    return codes, graph.producer[codes].output[1]


def _by_tensor(graph: Graph, base: str, rounded: tuple[str, str], weights: tuple[str, str]) -> str:
    """x W from the codes and scales of x, one range a tensor, and those of W."""
    zero = graph.producer[rounded[0]].output[2]
    sums = graph.add("MatMulInteger", [rounded[0], weights[0], zero], f"{base}_int32")
    real = graph.add("Cast", [sums], f"{base}_sums", to=TensorProto.FLOAT)
    factor = graph.add("Mul", [rounded[1], weights[1]], f"{base}_scale")
    return graph.add("Mul", [real, factor], f"{base}_scaled")


def _by_row(graph: Graph, base: str, rounded: tuple[str, str], weights: tuple[str, str]) -> str:
    """x W from the codes and scales of x, a scale a row, and those of W."""
    sums = graph.add("MatMulInteger", [rounded[0], weights[0]], f"{base}_int32")
    real = graph.add("Cast", [sums], f"{base}_sums", to=TensorProto.FLOAT)
    by_row = graph.add("Mul", [real, rounded[1]], f"{base}_by_row")
    return graph.add("Mul", [by_row, weights[1]], f"{base}_scaled")


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
