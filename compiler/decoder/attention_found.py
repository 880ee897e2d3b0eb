"""Finds attention in an exported graph: softmax(q k^T scale + mask) v, where k and v have the past in front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from targets.errors import UnsupportedModel

if TYPE_CHECKING:
    from compiler.decoder.exported import Exported

MOVES = {"Unsqueeze", "Expand", "Reshape", "Transpose", "Identity", "Squeeze", "Tile", "Dropout"}  # change no number
COUNTS = {"Shape", "Size"}  # read no number
MOST_STEPS = 64


@dataclass(frozen=True)
class Attention:
    """query [1, heads, seq, head_dim], key and value [1, groups, seq, head_dim] of the new tokens; `scale` of the
    scores besides what the query has in it; `mask`, which is added to the scores or chooses among them, and `context`,
    the node that gives the attended values [1, heads, seq, head_dim]."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    scale: float
    mask: ir.Value
    context: ir.Node


class _NotFound(Exception):
    pass


def find(graph: ir.Graph, exported: Exported) -> list[Attention]:
    """Of every layer. Raises UnsupportedModel naming the layer and what is not understood."""
    outputs = {str(v.name): v for v in graph.outputs}
    pasts = {str(v.name): v for v in graph.inputs}
    found = []
    for n in range(exported.layers):
        try:
            found.append(_layer(n, outputs, pasts))
        except _NotFound as reason:
            raise UnsupportedModel(
                f"{exported.path.name}: attention of layer {n} is not understood: {reason}"
            ) from None
    return found


def _layer(n: int, outputs: dict[str, ir.Value], pasts: dict[str, ir.Value]) -> Attention:
    whole, new = {}, {}
    for kind in ("key", "value"):
        whole[kind], new[kind] = _joined(outputs[f"present.{n}.{kind}"], pasts[f"past_key_values.{n}.{kind}"])
    product, side, scale = _to_product(whole["key"])
    if side != 1:
        raise _NotFound(f"keys on the left of {product.name}")
    query = product.inputs[0]
    assert query is not None
    softmax, more, mask = _to_softmax(product.outputs[0])
    context, _ = _after_softmax(softmax)
    values, side, one = _to_product(whole["value"])
    if values is not context or side != 1 or one != 1.0:
        raise _NotFound(f"the values do not meet the scores in {context.name}")
    return Attention(query, new["key"], new["value"], scale * more, mask, context)


def _joined(present: ir.Value, past: ir.Value) -> tuple[ir.Value, ir.Value]:
    """What a layer's output of keys or values is, and the new part of it."""
    node = present.producer()
    while node is not None and node.op_type == "Identity":
        present = node.inputs[0]  # type: ignore[assignment]
        node = present.producer()
    if node is None or node.op_type != "Concat" or len(node.inputs) != 2 or node.inputs[0] is not past:
        raise _NotFound(f"{present.name} is not {past.name} and new rows, concatenated")
    axis = node.attributes["axis"].as_int()
    if axis not in (2, -2):
        raise _NotFound(f"{present.name} is concatenated along axis {axis}")
    assert node.inputs[1] is not None
    return present, node.inputs[1]


def _users(value: ir.Value) -> list[tuple[ir.Node, int]]:
    return [(node, index) for node, index in value.uses() if node.op_type not in COUNTS]


def _factor(node: ir.Node, index: int) -> float:
    """What a product or quotient with a constant multiplies by."""
    other = node.inputs[1 - index]
    tensor = None if other is None else ir.convenience.get_const_tensor(other)
    if tensor is None or tensor.size != 1 or (node.op_type == "Div" and index != 0):
        raise _NotFound(f"{node.name} is no scaling by a constant")
    number = float(tensor.numpy().reshape(-1)[0])
    return number if node.op_type == "Mul" else 1 / number


def _to_product(value: ir.Value) -> tuple[ir.Node, int, float]:
    """The product that reads `value`, moved about and perhaps scaled, at which side, and the scale."""
    scale = 1.0
    for _ in range(MOST_STEPS):
        users = [
            use for use in _users(value) if not (use[0].op_type == "Identity" and use[0].outputs[0].is_graph_output())
        ]
        if len({node for node, _ in users}) != 1:
            raise _NotFound(f"{value.name} is read {len(users)} times")
        node, index = users[0]
        if node.op_type == "MatMul":
            return node, index, scale
        if node.op_type in ("Mul", "Div"):
            scale *= _factor(node, index)
        elif node.op_type not in MOVES:
            raise _NotFound(f"{node.op_type} {node.name} reads keys or values")
        value = node.outputs[0]
    raise _NotFound("no product with keys or values")


def _to_softmax(value: ir.Value) -> tuple[ir.Node, float, ir.Value]:
    """The Softmax of scores, their scale, and the mask."""
    scale, mask = 1.0, None
    for _ in range(MOST_STEPS):
        users = _users(value)
        if len(users) != 1:
            raise _NotFound(f"scores {value.name} are read {len(users)} times")
        node, index = users[0]
        if node.op_type == "Softmax":
            if mask is None:
                raise _NotFound("its scores have no mask")
            return node, scale, mask
        if node.op_type in ("Mul", "Div") and mask is None:
            scale *= _factor(node, index)
        elif node.op_type in ("Add", "Where") and mask is None:
            mask = node.inputs[1 - index if node.op_type == "Add" else 0]
            if node.op_type == "Where":
                other = node.inputs[3 - index] if index else None
                low = None if other is None else ir.convenience.get_const_tensor(other)
                if low is None or low.numpy().max() > -1e4 or index != 1:
                    raise _NotFound(f"Where {node.name} is no mask that keeps what is true")
        elif node.op_type not in ("Identity", "Dropout"):
            raise _NotFound(f"{node.op_type} {node.name} reads the scores")
        value = node.outputs[0]
    raise _NotFound("no softmax of the scores")


def _after_softmax(softmax: ir.Node) -> tuple[ir.Node, int]:
    """The product with the probabilities; a Where that takes out NaN changes nothing here, as no row sees nothing."""
    value = softmax.outputs[0]
    for _ in range(MOST_STEPS):
        users = [use for use in _users(value) if use[0].op_type != "IsNaN"]
        if len(users) != 1:
            raise _NotFound(f"probabilities {value.name} are read {len(users)} times")
        node, index = users[0]
        if node.op_type == "MatMul" and index == 0:
            return node, index
        guard = node.op_type == "Where" and index == 2
        if not guard and node.op_type not in ("Identity", "Dropout"):
            raise _NotFound(f"{node.op_type} {node.name} reads the probabilities")
        value = node.outputs[0]
    raise _NotFound("no product with the probabilities")
