"""The reference graph with numbers rounded where the compiled decoder rounds them.

Activations to 8 bits: each block of 32 of a row gets the scale that takes its largest magnitude to 127; products with
weights in blocks read such rows, others read floats. New keys and values to float16, as the cache has them. ONNX
Runtime runs it, so it shows what these roundings cost by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto, helper

from compiler.gguf import Tensor

BLOCK = 32
LEAST = 1e-30  # a scale for blocks of zeros


def round_like_compiled(source: Path, weights: Mapping[str, Tensor], path: Path) -> Path:
    """Write the graph of `source` (to_onnx with float weights, whose data file is shared) so changed to `path`."""
    model = onnx.load(source, load_external_data=False)
    nodes: list[NodeProto] = []
    rounded: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Gemm" and weights[node.input[1]].quantized:
            x = node.input[0]
            if x not in rounded:
                nodes += _rounding(x)
                rounded[x] = f"{x}.back"
            node.input[0] = rounded[x]
        elif node.op_type == "Attention":
            for i in (1, 2):
                x = node.input[i]
                nodes += [
                    helper.make_node("Cast", [x], [f"{x}.half"], f"{x}.half", to=onnx.TensorProto.FLOAT16),
                    helper.make_node("Cast", [f"{x}.half"], [f"{x}.stored"], f"{x}.stored", to=onnx.TensorProto.FLOAT),
                ]
                node.input[i] = f"{x}.stored"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name, values, kind in (("int8.blocks", [0, -1, BLOCK], onnx.TensorProto.INT64), ("int8.most", [127.0], 1)):
        model.graph.initializer.append(helper.make_tensor(name, kind, [len(values)], values))
    model.graph.initializer.append(helper.make_tensor("int8.least", 1, [1], [LEAST]))
    model.graph.initializer.append(helper.make_tensor("int8.axis", onnx.TensorProto.INT64, [1], [2]))
    path.write_bytes(model.SerializeToString())
    return path


def _rounding(x: str) -> list[NodeProto]:
    """x [rows, width] -> `x`.back of the same shape."""

    def op(kind: str, inputs: list[str], what: str, **attributes: Any) -> NodeProto:
        return helper.make_node(kind, inputs, [f"{x}.{what}"], name=f"{x}.{what}", **attributes)

    return [
        op("Shape", [x], "shape"),
        op("Reshape", [x, "int8.blocks"], "blocks", allowzero=0),
        op("Abs", [f"{x}.blocks"], "abs"),
        op("ReduceMax", [f"{x}.abs", "int8.axis"], "top", keepdims=1),
        op("Div", [f"{x}.top", "int8.most"], "ratio"),
        op("Max", [f"{x}.ratio", "int8.least"], "scale"),
        op("Div", [f"{x}.blocks", f"{x}.scale"], "exact"),
        op("Round", [f"{x}.exact"], "codes"),
        op("Mul", [f"{x}.codes", f"{x}.scale"], "values"),
        op("Reshape", [f"{x}.values", f"{x}.shape"], "back"),
    ]
