"""A QDQ model whose inputs and outputs are the integers themselves: for callers that have them quantized already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")
KINDS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)


@dataclass(frozen=True)
class Scale:
    """real = (integer - zero_point) * scale."""

    scale: float
    zero_point: int


def quantized_io(path: Path, out: Path) -> dict[str, Scale]:
    """Writes the model at `path` to `out` with integer inputs and outputs; the scale of each that changed, by name.

    An input changes where all that becomes of it, moved about at most, is one QuantizeLinear with one scale; an output
    where it comes from such a DequantizeLinear. The rest stay what they are.
    """
    model = onnx.load(path)
    graph = model.graph
    known = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = node.attribute[0].t
    changed: dict[str, Scale] = {}
    for value in graph.input:
        if found := _into_integers(graph, value.name, known):
            scale, kind, nodes = found
            for node in nodes:
                _rename(graph, node.output[0], node.input[0])
                graph.node.remove(node)
            value.type.tensor_type.elem_type = kind
            changed[value.name] = scale
    for value in graph.output:
        node = next((n for n in graph.node if value.name in n.output), None)
        parameters = _parameters(node, "DequantizeLinear", known) if node is not None else None
        if node is None or parameters is None or any(value.name in n.input for n in graph.node):
            continue
        maker = next((n for n in graph.node if node.input[0] in n.output), None)
        readers = [n for n in graph.node if node.input[0] in n.input]
        if maker is None or len(readers) != 1:
            continue
        graph.node.remove(node)
        maker.output[list(maker.output).index(node.input[0])] = value.name
        value.type.tensor_type.elem_type = parameters[1]
        changed[value.name] = parameters[0]
    del graph.value_info[:]  # types on the way have changed
    onnx.save(model, out)
    return changed


def _parameters(
    node: onnx.NodeProto, op: str, known: dict[str, TensorProto]
) -> tuple[Scale, int] | None:  # fmt: skip
    """Scale, zero point and integer type of a QuantizeLinear or DequantizeLinear with constant ones."""
    if node.op_type != op or node.domain or len(node.input) < 3 or not {*node.input[1:3]} <= known.keys():
        return None
    scale, zero = (numpy_helper.to_array(known[name]) for name in node.input[1:3])
    kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
    if scale.size != 1 or kind not in KINDS or str(scale.dtype) != "float32":
        return None
    return Scale(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])), kind


def _into_integers(
    graph: onnx.GraphProto, name: str, known: dict[str, TensorProto]
) -> tuple[Scale, int, list[onnx.NodeProto]] | None:
    """The one scale that everything made of `name` is quantized with, and the nodes that do it."""
    found: set[tuple[Scale, int]] = set()
    nodes, open_ = [], [name]
    while open_:
        value = open_.pop()
        readers = [n for n in graph.node if value in n.input]
        if not readers or any(value == o.name for o in graph.output):
            return None
        for node in readers:
            if node.op_type in MOVES and node.input[0] == value:
                open_ += node.output
                continue
            parameters = _parameters(node, "QuantizeLinear", known) if node.input[0] == value else None
            if parameters is None:
                return None
            found.add(parameters)
            nodes.append(node)
    return (*found.pop(), nodes) if len(found) == 1 else None


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
