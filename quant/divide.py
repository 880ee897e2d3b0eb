"""Divide the features of a value by constants, at no cost where the division fits into what makes the value.

SmoothQuant and AWQ both use W x = (W s) (x / s): scales move between a product's inputs and its weights.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from onnx import NodeProto

from quant.contract import Options
from quant.graph import Graph, attribute
from quant.linear import Linear, linears

_DEEPEST = 8  # operators followed back from the value


def shared_inputs(graph: Graph, options: Options) -> dict[str, list[Linear]]:
    """The products to quantize by the value they multiply; none whose weights serve other nodes too."""
    groups: dict[str, list[Linear]] = defaultdict(list)
    for layer in linears(graph, options)[0]:
        groups[layer.data].append(layer)
    return {
        data: layers
        for data, layers in groups.items()
        if all(len(graph.consumers[layer.weight]) == 1 for layer in layers)
    }


def rescale(graph: Graph, layers: list[Linear], scale: np.ndarray, insert: bool) -> bool:
    """Divide the layers' common input by `scale` [K] (positive) and multiply their weights' rows by it.

    Where the division fits into nothing before, a Mul is put in if `insert`, else nothing changes. Says if it was done.
    """
    data = layers[0].data
    users = [layer.node for layer in layers]
    alone = data not in graph.outputs and all(any(user is mine for mine in users) for user in graph.consumers[data])
    divided = _divided(graph, data, scale.astype(np.float32), alone, _DEEPEST)
    if divided is None:
        if not insert:
            return False
        inverse = graph.add_constant(f"{data}_inverse", (1 / scale).astype(np.float32))
        divided = graph.add("Mul", [data, inverse], f"{data}_smoothed")
    for layer in layers:
        weights = layer.stored((layer.matrix * scale[:, None]).astype(np.float32))
        graph.replace_input(layer.node, layer.weight, graph.add_constant(f"{layer.weight}_smoothed", weights))
        layer.node.input[0] = divided
    graph.index()
    return True


def _divided(graph: Graph, value: str, scale: np.ndarray, alone: bool, deep: int) -> str | None:
    """The name of value / scale, made by new nodes beside the old (which stay for other users), or None.

    `alone`: nothing else needs the value, so that even a product may be replaced; cheap nodes may be doubled.
    """
    node = graph.producer.get(value)
    if node is None or not deep or node.domain not in ("", "ai.onnx"):
        return None

    def before(i: int) -> str | None:
        name = node.input[i]
        only = alone and len(graph.consumers[name]) == 1 and name not in graph.outputs
        return _divided(graph, name, scale, only, deep - 1)

    def constant(i: int, factor: np.ndarray) -> str | None:
        array = graph.constant(node.input[i]) if i < len(node.input) else None
        if array is None or array.dtype != np.float32 or (array.ndim > 1 and array.size != array.shape[-1]):
            return None
        return graph.add_constant(f"{node.input[i]}_smoothed", (array * factor).astype(np.float32))

    inverse = 1 / scale
    inputs: list[str | None] = list(node.input)
    fixed = [i for i, name in enumerate(node.input) if name in graph.initializers]
    if node.op_type in ("Mul", "Div") and fixed in ([1], [0]) and not (node.op_type == "Div" and fixed == [0]):
        inputs[fixed[0]] = constant(fixed[0], scale if node.op_type == "Div" else inverse)
    elif node.op_type in ("Add", "Sub") and fixed in ([0], [1]):
        inputs[1 - fixed[0]] = before(1 - fixed[0])
        if inputs[1 - fixed[0]] is not None:
            inputs[fixed[0]] = constant(fixed[0], inverse)
    elif node.op_type == "LayerNormalization" and len(node.output) == 1 and attribute(node, "axis", -1) == -1:
        inputs[1:] = [constant(i, inverse) for i in range(1, len(node.input))]
    elif node.op_type in ("Relu", "LeakyRelu", "Identity"):
        inputs[0] = before(0)
    elif node.op_type == "MatMul" and fixed == [1] and alone and len(graph.shape(node.input[1]) or ()) == 2:
        weights = graph.constant(node.input[1])
        assert weights is not None
        inputs[1] = graph.add_constant(f"{node.input[1]}_smoothed", (weights * inverse).astype(np.float32))
    elif node.op_type == "Gemm" and alone and fixed in ([1], [1, 2]) and len(node.input) == len(fixed) + 1:
        weights = graph.constant(node.input[1])
        assert weights is not None
        columns = inverse[:, None] if attribute(node, "transB", 0) else inverse
        inputs[1] = graph.add_constant(f"{node.input[1]}_smoothed", (weights * columns).astype(np.float32))
        inputs[2:] = [constant(i, inverse) for i in fixed[1:]]
    else:
        return None
    return None if None in inputs else _again(graph, node, [name or "" for name in inputs])


def _again(graph: Graph, node: NodeProto, inputs: list[str]) -> str:
    """The same operator on other inputs; its output."""
    attributes = {entry.name: attribute(node, entry.name) for entry in node.attribute}
    return graph.add(node.op_type, inputs, f"{node.output[0]}_smoothed", **attributes)
