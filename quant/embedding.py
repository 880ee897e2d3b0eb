"""Lookup tables with int8 rows.

    rows   = Gather(codes int8 [V, D], ids)              # [.., D]
    scale  = Gather(scales float32 [V, 1], ids)          # [.., 1]
    float  = Cast(rows, to FLOAT)
    y      = Mul(float, scale)                           # code * scale, one scale a row

Only the rows asked for are made float32, so the table stays small in memory too.
"""

from __future__ import annotations

from onnx import TensorProto

from quant.blocks import per_column
from quant.contract import Layer, Options
from quant.graph import Graph
from quant.linear import replace, tables


def int8_tables(graph: Graph, options: Options, scheme: str) -> list[Layer]:
    """Give every lookup table that `options` let be quantized int8 rows; what was done, one entry a table."""
    layers = []
    for node in tables(graph, options):
        name, ids = node.input
        table = graph.constant(name)
        assert table is not None
        codes, scales = per_column(table.T)
        rows = graph.add("Gather", [graph.add_constant(f"{name}_int8", codes.T.copy()), ids], f"{name}_rows")
        scale = graph.add("Gather", [graph.add_constant(f"{name}_scale", scales[:, None]), ids], f"{name}_row_scale")
        values = graph.add("Cast", [rows], f"{name}_row_values", to=TensorProto.FLOAT)
        replace(graph, node, graph.add("Mul", [values, scale], f"{name}_scaled"))
        layers.append(Layer(node.name, "Gather", scheme, "int8 rows, a scale each"))
    return layers
