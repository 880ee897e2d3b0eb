"""Nodes that hand out what they were given go; cheaper forms of the same arithmetic replace dearer ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from compiler.ops.elementwise import broadcast_shape
from compiler.ops.registry import Unsupported
from targets.kernels.tensor import same_shape
from targets.target import Target

from .edit import Edit

BROADCASTING = {
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Where", "And", "Or", "Xor",
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
}  # fmt: skip
NOT_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp"}


def run(edit: Edit, target: Target) -> bool:
    """Each node by the rule of its operator, then Expands whose readers broadcast by themselves."""
    changed = False
    for node in list(edit.graph):
        if node.domain or not node.inputs or node.inputs[0] is None or any(v.uses() for v in node.outputs[1:]):
            continue
        x, y = node.inputs[0], node.outputs[0]
        if y.name in edit.facts.constants or not (y.uses() or y.is_graph_output()):
            continue
        rule = NOTHING.get(node.op_type)
        source = rule(edit, node) if rule else None
        if source is not None and _same(edit, source, y) and not y.is_graph_output():
            edit.replace(y, source)
            changed = True
        elif node.op_type == "Expand":
            changed |= _spread_by_readers(edit, x, y)
        elif node.op_type in CHEAPER:
            changed |= CHEAPER[node.op_type](edit, node)
    return changed


def _same(edit: Edit, x: ir.Value, y: ir.Value) -> bool:
    return edit.dtype(x) == edit.dtype(y) and same_shape(edit.shape(x), edit.shape(y))


# ---- what a node hands out unchanged, None where it does something (the caller compares shape and type) ----------
def _first(edit: Edit, node: ir.Node) -> ir.Value | None:
    return node.inputs[0]


def _slice(edit: Edit, node: ir.Node) -> ir.Value | None:
    """With all of its elements left a Slice can still turn them round."""
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = edit.const(node.inputs[4])
        if steps is None or np.any(steps < 0):
            return None
    return node.inputs[0]


def _pad(edit: Edit, node: ir.Node) -> ir.Value | None:
    pads = edit.attr(node, "pads")
    if pads is None and len(node.inputs) > 1:
        pads = edit.const(node.inputs[1])
    return None if pads is None or np.any(np.asarray(pads) != 0) else node.inputs[0]


def _concat(edit: Edit, node: ir.Node) -> ir.Value | None:
    axis = int(edit.attr(node, "axis", 0))
    parts = [v for v in node.inputs if v is not None and not _is_zero(edit.shape(v)[axis])]
    return parts[0] if len(parts) == 1 else None


def _is_zero(dim: object) -> bool:
    return isinstance(dim, int) and dim == 0


def _alone(edit: Edit, node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _dropout(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Does nothing but in training, which opset 12 and later ask for by an input."""
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if any(v.is_graph_output() for v in node.outputs[1:]):
        return None
    return node.inputs[0] if training is None or edit.scalar(training) == 0 else None


def _transpose(edit: Edit, node: ir.Node) -> ir.Value | None:
    perm = edit.attr(node, "perm")
    return node.inputs[0] if perm is not None and list(perm) == sorted(perm) else None


def _neutral(number: float, both: bool) -> Callable[[Edit, ir.Node], ir.Value | None]:
    """The other operand of a node one of whose operands is `number` all over; both: on either side."""

    def rule(edit: Edit, node: ir.Node) -> ir.Value | None:
        a, b = node.inputs[:2]
        if edit.scalar(b) == number:
            return a
        return b if both and edit.scalar(a) == number else None

    return rule


def _relu(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Of what is never negative."""
    x = node.inputs[0]
    before = x.producer() if x is not None else None
    if before is None or before.domain:
        return None
    low = edit.attr(before, "min") if len(before.inputs) < 2 else edit.scalar(before.inputs[1])
    clipped = before.op_type == "Clip" and low is not None and low >= 0
    return x if clipped or before.op_type in NOT_NEGATIVE else None


NOTHING: dict[str, Callable[[Edit, ir.Node], ir.Value | None]] = {
    "Identity": _first, "Expand": _first, "Cast": _first, "CastLike": _first, "Tile": _first, "Split": _first,
    "Dropout": _dropout, "Slice": _slice, "Pad": _pad, "Concat": _concat, "Transpose": _transpose, "Relu": _relu,
    "Sum": _alone, "Max": _alone, "Min": _alone, "Mean": _alone,
    "Mul": _neutral(1.0, True), "Div": _neutral(1.0, False), "Add": _neutral(0.0, True), "Sub": _neutral(0.0, False),
    "Pow": _neutral(1.0, False),
}  # fmt: skip


# ---- broadcasting --------------------------------------------------------------------------------------------------
def _spread_by_readers(edit: Edit, x: ir.Value, y: ir.Value) -> bool:
    """Readers that give the same shape from `x` as from its expanded form `y` read `x`."""
    changed = False
    for use in list(y.uses()):
        node = use.node
        if node.domain or node.op_type not in BROADCASTING or len(node.inputs) < 2:
            continue
        others = [edit.shape(v) for i, v in enumerate(node.inputs) if v is not None and i != use.idx]
        try:
            shape = broadcast_shape(edit.shape(x), *others)
        except Unsupported:
            continue
        if same_shape(shape, edit.shape(node.outputs[0])):
            node.replace_input_with(use.idx, x)
            changed = True
    return changed


# ---- cheaper -------------------------------------------------------------------------------------------------------
def _divide(edit: Edit, node: ir.Node) -> bool:
    """x / 2^n is x * 2^-n, to the last bit."""
    a, b = node.inputs
    if a is None or b is None or edit.dtype(a) not in ("float32", "float64") or b.name not in edit.facts.constants:
        return False
    divisor = np.asarray(edit.const(b))
    if divisor.size > 1 << 16 or not np.all(np.isfinite(divisor)) or not np.all(np.frexp(divisor)[0] ** 2 == 0.25):
        return False
    with np.errstate(all="ignore"):
        inverse = (1 / divisor).astype(divisor.dtype)
    if not np.all(np.isfinite(inverse)) or np.any(np.abs(inverse) < np.finfo(divisor.dtype).tiny):
        return False
    return _instead(edit, node, edit.insert(node, "Mul", [a, edit.constant(f"{b.name}.inverse", inverse)]))


def _power(edit: Edit, node: ir.Node) -> bool:
    """x^2 and x^3 by multiplication."""
    x = node.inputs[0]
    power = edit.scalar(node.inputs[1])
    if x is None or power not in (2.0, 3.0) or edit.dtype(x) not in ("float32", "float64"):
        return False
    square = edit.insert(node, "Mul", [x, x])
    return _instead(edit, node, square if power == 2.0 else edit.insert(node, "Mul", [square, x]))


def _instead(edit: Edit, node: ir.Node, made: ir.Value) -> bool:
    if not _same(edit, made, node.outputs[0]):
        return False
    edit.replace(node.outputs[0], made)
    return True


CHEAPER: dict[str, Callable[[Edit, ir.Node], bool]] = {"Div": _divide, "Pow": _power}
