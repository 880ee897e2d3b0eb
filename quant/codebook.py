"""codebook: each weight is one of 16 values, k-means codebooks shared by groups of similar rows (Han et al. 2015, Deep
Compression, arXiv:1510.00149, section 3; similarly distributed neurons grouped, with scales of their own, as in Yvinec
et al. 2023, "Network Memory Footprint Compression Through Jointly Learnable Codebooks and Mappings").

A row is one output's weights: a column of the [K, N] matrix of a product. It is divided by its root mean square, rows
of like distribution get one codebook, and in turns the values are fitted to the rows and each row moves to the codebook
that suits it best. Any row may have any codebook: the map is an offset into the tables, not an order of rows. A MatMul
by a constant [K, N] with C codebooks takes its weights from exactly

    i  = Cast(codes uint4 [K, N], to INT32)
    j  = Add(i, offsets int32 [N])                       # 16 times the codebook of column n
    v  = Gather(tables float32 [16 C], j)                # [K, N]
    w  = Mul(v, scales float32 [N])
    y  = MatMul(x, w)                                    # a Gemm keeps its other inputs; with transB: Transpose(w)

Activations stay float32. Lookup tables get int8 rows (see `quant.embedding`).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from quant.blocks import usable
from quant.contract import Layer, Options, Progress, Rewritten
from quant.data import Samples
from quant.embedding import int8_tables
from quant.graph import Graph
from quant.kmeans import Codebooks, fit
from quant.linear import Linear, linears, replace_weights
from quant.schemes import Scheme

ROWS = 32  # rows a codebook serves on average; `options.group` overrides it


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """Codebooks for every product by a constant matrix. Needs no calibration data; reproducible from `options.seed`."""
    graph = Graph(model)
    found, layers = linears(graph, options)
    stored: dict[tuple[str, bool], str] = {}
    for done, layer in enumerate(found):
        if progress:
            progress("weights", done, len(found))
        replace_weights(graph, layer, stored, partial(_fitted, graph, layer, options))
        layers.append(Layer(layer.node.name, layer.node.op_type, scheme.name))
    layers += int8_tables(graph, options, scheme.name)
    return Rewritten(graph.finish(), layers)


def _fitted(graph: Graph, layer: Linear, options: Options) -> str:
    scales = usable(np.sqrt(np.mean(np.square(layer.matrix, dtype=np.float64), axis=0)).astype(np.float32))
    count = max(1, -(-layer.matrix.shape[1] // (options.group or ROWS)))
    books = fit((layer.matrix / scales).T, count, np.random.default_rng(options.seed))
    return store(graph, layer.weight, books, scales)


def store(graph: Graph, base: str, books: Codebooks, scales: np.ndarray) -> str:
    """Add the constants and nodes above; the name of w."""
    import ml_dtypes

    codes = graph.add_constant(f"{base}_codes", np.ascontiguousarray(books.codes.T).astype(ml_dtypes.uint4))
    offsets = graph.add_constant(f"{base}_offsets", 16 * books.book.astype(np.int32))
    tables = graph.add_constant(f"{base}_tables", books.tables.ravel())
    wide = graph.add("Cast", [codes], f"{base}_wide", to=onnx.TensorProto.INT32)
    index = graph.add("Add", [wide, offsets], f"{base}_index")
    values = graph.add("Gather", [tables, index], f"{base}_values")
    return graph.add("Mul", [values, graph.add_constant(f"{base}_scale", scales)], f"{base}_dequantized")
