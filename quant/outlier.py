"""int8-outlier: LLM.int8(), vector-wise int8 with the outlier features kept in float32 (Dettmers et al. 2022,
arXiv:2208.07339, section 3).

An input feature (a column of x) whose size reaches `options.outlier` (6, as in the paper) on the calibration data is an
outlier; the paper finds them as the model runs, but their places hardly change, and so they can be constants. With R
regular features and O outliers, R + O = K, a product of x [.., K] by a constant [K, N] becomes exactly

    r = Gather(x, int64 [R], axis=-1)                    # left out, r = x, where there are no outliers
    q, s = `quant.rows` of r                             # int8 [.., R], float32 [.., 1]
    n = MatMulInteger(q, codes int8 [R, N])              # int32, no zero points
    f = Cast(n, to FLOAT)
    t = Mul(f, s)
    h = Mul(t, scales float32 [N])
    o = Gather(x, int64 [O], axis=-1)
    p = MatMul(o, float32 [O, N])
    y = Add(h, p)                                        # y = h where there are no outliers

Products of the same x share everything up to q, and o. A Gemm's alpha goes into the scales and the float32 weights, its
beta into the bias added at the end. Where most features are outliers the product stays float32. Lookup tables get int8
rows (see `quant.embedding`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from quant.blocks import per_column
from quant.contract import Layer, Options, Progress, Rewritten
from quant.data import Samples
from quant.dynamic import finish_product
from quant.embedding import int8_tables
from quant.graph import Graph, attribute
from quant.linear import Linear, linears
from quant.moments import collect
from quant.rows import int8_rows
from quant.schemes import Scheme
from targets.errors import UsageError


@dataclass(frozen=True)
class _Split:
    """One x, divided: the int8 rows with their scale, the outliers (None if there are none), and which are which."""

    codes: str
    scale: str
    outliers: str | None
    regular: np.ndarray
    kept: np.ndarray


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """Quantize every product by a constant matrix as above. Raises UsageError without calibration data."""
    if samples is None:
        raise UsageError(f"{scheme.name} finds outliers on calibration data: give an .npz file or a folder of samples")
    graph = Graph(model)
    found, layers = linears(graph, options)
    moments = collect(model, [layer.data for layer in found], samples, progress, products=False)
    splits: dict[str, _Split] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        large = moments[layer.data].largest >= options.outlier
        if large.mean() > 0.5:
            reason = f"{large.sum()} of {large.size} input features reach {options.outlier:g}: outliers all"
            layers.append(Layer(layer.node.name, layer.node.op_type, None, reason))
            continue
        if layer.data not in splits:
            splits[layer.data] = _split(graph, layer.data, np.flatnonzero(~large), np.flatnonzero(large))
        _product(graph, layer, splits[layer.data])
        said = f"{large.sum()} of {large.size} input features in float32" if large.any() else "no outliers"
        layers.append(Layer(layer.node.name, layer.node.op_type, scheme.name, said))
    layers += int8_tables(graph, options, scheme.name)
    return Rewritten(graph.finish(), layers)


def _split(graph: Graph, x: str, regular: np.ndarray, kept: np.ndarray) -> _Split:
    rows, outliers = x, None
    if kept.size:
        rows = graph.add("Gather", [x, graph.add_constant(f"{x}_regular_at", regular)], f"{x}_regular", axis=-1)
        outliers = graph.add("Gather", [x, graph.add_constant(f"{x}_outliers_at", kept)], f"{x}_outliers", axis=-1)
    codes, scale = int8_rows(graph, rows, len(regular))
    return _Split(codes, scale, outliers, regular, kept)


def _product(graph: Graph, layer: Linear, split: _Split) -> None:
    base = layer.node.output[0]
    matrix = layer.matrix * np.float32(attribute(layer.node, "alpha", 1.0))
    codes, scales = per_column(matrix[split.regular])
    stored = graph.add_constant(f"{layer.weight}_int8", np.ascontiguousarray(codes))
    sums = graph.add("MatMulInteger", [split.codes, stored], f"{base}_int32")
    real = graph.add("Cast", [sums], f"{base}_sums", to=TensorProto.FLOAT)
    by_row = graph.add("Mul", [real, split.scale], f"{base}_by_row")
    product = graph.add("Mul", [by_row, graph.add_constant(f"{layer.weight}_scale", scales)], f"{base}_scaled")
    if split.outliers:
        weights = graph.add_constant(f"{layer.weight}_outliers", np.ascontiguousarray(matrix[split.kept]))
        rest = graph.add("MatMul", [split.outliers, weights], f"{base}_outliers")
        product = graph.add("Add", [product, rest], f"{base}_all")
    finish_product(graph, layer, product)
