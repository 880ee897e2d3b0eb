"""Which values of a model become integers, decided before anything is measured or rewritten."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto

from quant.contract import Layer, Options
from quant.graph import Graph, attribute
from quant.recurrent import CELLS
from quant.recurrent import refusal as cell_refusal

# Operators that only move values (input 0, or all of Concat's): what comes out has the scale of what went in.
MOVES = {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity", "Concat", "MaxPool"}
MOVES |= {"Resize", "Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"}
# Operators that compute on codes where all they read are codes.
ARITHMETIC = {"AveragePool", "GlobalAveragePool", "Add", "Mul"}
ANCHORS = {"Conv", "Gemm", "MatMul"}
# Named in the report when they stay float32, since they hold weights.
_CELL = "recurrent cells have no static form in 8 bits; int16x8 and int8-dynamic are the schemes for them"
FLOAT = {
    "ConvTranspose": "no integer kernel for transposed convolution",
    "LSTM": _CELL,
    "GRU": _CELL,
    "RNN": _CELL,
}


@dataclass
class Plan:
    """What is to be done.

    `values`: quantized values, each with the one that stands for its scale group (itself where it is alone);
    `integer`: names of the nodes that read the quantized values, all others read float32 where there is one;
    `clamps`: a Relu or Clip, by the name of the node whose output's range does its work; `layers` for the report.
    """

    values: dict[str, str] = field(default_factory=dict)
    integer: set[str] = field(default_factory=set)
    clamps: dict[str, NodeProto] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)

    def observed(self) -> dict[str, list[str]]:
        """The values to calibrate, by scale group: what only moves values adds nothing to the group's range."""
        groups: dict[str, list[str]] = {}
        for value, group in self.values.items():
            groups.setdefault(group, [])
            if value not in self.moved:
                groups[group].append(value)
        return {group: members or [group] for group, members in groups.items()}


def plan(graph: Graph, scheme: str, options: Options, fold_clamps: bool, cells: bool = False) -> Plan:
    """Decide for every node (the graph's order is the order of execution); `fold_clamps`: whether the codes' own limits
    may stand for a Relu or Clip (they may not for symmetric formats); `cells`: whether LSTM and GRU are taken."""
    made = Plan()
    allowed = {node.name: options.takes(node.name) for node in graph.nodes}
    reasons = {node.name: _refusal(graph, node) for node in graph.nodes if node.op_type in ANCHORS}
    if cells:
        reasons |= {node.name: cell_refusal(graph, node) for node in graph.nodes if node.op_type in CELLS}
    anchors = {name for name, reason in reasons.items() if reason is None and allowed[name]}
    needed = _needed(graph, anchors, allowed)
    made.values.update((name, name) for name in graph.inputs if name in needed)
    for node in graph.nodes:
        op = node.op_type
        if op in ANCHORS or op in FLOAT:
            kept = "" if allowed[node.name] else "kept in float32 as asked"
            reason = kept or reasons.get(node.name, FLOAT.get(op)) or ""
            made.layers.append(Layer(node.name, op, None if reason else scheme, reason))
        if node.name in anchors:
            made.integer.add(node.name)
            # Linear layers can give float32 from their int32 sums; convolutions always end in bytes.
            if op not in CELLS and (op == "Conv" or _clamped(graph, node, fold_clamps and allowed)[0] in needed):
                _quantize_output(graph, made, node, fold_clamps and allowed)
        elif _is_move(graph, node) and allowed[node.name] and all(x in made.values for x in moved_inputs(node)):
            made.integer.add(node.name)
            first = made.values[node.input[0]]
            for other in {made.values[x] for x in moved_inputs(node)} - {first}:
                made.values.update((value, first) for value, group in made.values.items() if group == other)
            made.values.update((name, first) for name in node.output if name)
            made.moved.update(name for name in node.output if name)
        elif _is_arithmetic(graph, node) and allowed[node.name] and all(x in made.values for x in node.input):
            made.integer.add(node.name)
            made.layers.append(Layer(node.name, op, scheme))
            _quantize_output(graph, made, node, fold_clamps and allowed)
        made.values.update((name, name) for name in node.output if name in needed and name not in made.values)
    return made


def moved_inputs(node: NodeProto) -> list[str]:
    """The inputs of a node in MOVES that hold the values moved."""
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])


def activation_inputs(graph: Graph, node: NodeProto) -> list[str]:
    """The inputs of an anchor that are no constants, the bias not counted."""
    count = 1 if node.op_type in CELLS else 2
    return [name for name in node.input[:count] if name not in graph.initializers]


def _needed(graph: Graph, anchors: set[str], allowed: dict[str, bool]) -> set[str]:
    """Values that must be quantized, whoever makes them: what anchors read, and before that what was only moved."""
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if node.name in anchors:
            needed.update(activation_inputs(graph, node))
        elif _is_move(graph, node) and allowed[node.name] and needed.intersection(node.output):
            needed.update(moved_inputs(node))
    return needed


def _quantize_output(graph: Graph, made: Plan, node: NodeProto, allowed: dict[str, bool] | bool) -> None:
    value, clamp = _clamped(graph, node, allowed)
    made.values[value] = value
    if clamp is not None:
        made.clamps[node.name] = clamp


def _clamped(graph: Graph, node: NodeProto, allowed: dict[str, bool] | bool) -> tuple[str, NodeProto | None]:
    """The node's output, or that of the clamp which alone reads it (and the clamp) where the codes' limits do its
    work: it keeps zero, which every range has."""
    out = node.output[0]
    users = graph.consumers[out]
    if not isinstance(allowed, dict) or len(users) != 1 or out in graph.outputs or not allowed[users[0].name]:
        return out, None
    clamp = users[0]
    if clamp.op_type == "Clip":
        ends = [graph.constant(name) if name else None for name in clamp.input[1:]]
        given = [name for name in clamp.input[1:] if name]
        if len(given) != sum(end is not None for end in ends):
            return out, None
        low, high = (*ends, None, None)[:2]
        if (low is not None and low.item() > 0) or (high is not None and high.item() <= 0):
            return out, None
    elif clamp.op_type != "Relu":
        return out, None
    return clamp.output[0], clamp


def _refusal(graph: Graph, node: NodeProto) -> str | None:
    """Why an anchor cannot run on integers, or None."""
    if any(graph.dtype(name) != TensorProto.FLOAT for name in (*node.input[:2], node.output[0])):
        return "not float32, or of unknown type"
    weight = graph.constant(node.input[1])
    if node.op_type == "Conv":
        if weight is None:
            return "weights are not constant"
        if not np.isfinite(weight).all():
            return "weights are not finite"
    if node.op_type == "Gemm":
        if weight is None or node.input[0] in graph.initializers:
            return "weights are not constant"
        if attribute(node, "transA", 0):
            return "takes its input transposed"
    if node.op_type == "MatMul":
        constants = [name for name in node.input if name in graph.initializers]
        if len(constants) == 2 or node.input[0] in graph.initializers:
            return "the left matrix is constant"
        if weight is not None and weight.ndim != 2:
            return "weights are not a matrix"
        if weight is None and any(len(graph.shape(name) or ()) < 2 for name in node.input):
            return "not a product of matrices"
    if len(node.input) > 2 and node.input[2] and graph.constant(node.input[2]) is None:
        return "bias is not constant"
    return None


def _is_move(graph: Graph, node: NodeProto) -> bool:
    if node.op_type not in MOVES or any(graph.dtype(name) != TensorProto.FLOAT for name in moved_inputs(node)):
        return False
    if any(name in graph.initializers for name in moved_inputs(node)):
        return False
    if node.op_type == "MaxPool":
        return len(node.output) == 1
    return node.op_type != "Resize" or attribute(node, "mode", "nearest") == "nearest"


def _is_arithmetic(graph: Graph, node: NodeProto) -> bool:
    return node.op_type in ARITHMETIC and graph.dtype(node.output[0]) == TensorProto.FLOAT
