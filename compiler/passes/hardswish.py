"""x * clip(x + 3, 0, 6) / 6 becomes HardSwish, clip(a x + b, 0, 1 / c) * c becomes HardSigmoid.

Howard et al., arXiv 1905.02244, section 5.2. Exporters write relu6 as Clip, as Min(Max(..)) or as Relu with Min, and
put the sixth before or behind; `x * HardSigmoid(x)` is folded too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.target import Target

from .algebra import WIDE, NoMatch, Pattern, climb, close, gated, polynomial, product
from .edit import Edit

SIXTH = 1.0 / 6.0


def run(edit: Edit, target: Target) -> bool:
    """HardSwish first, from the clipped sum or a HardSigmoid; then HardSigmoid where nothing multiplies by x."""
    changed = 0
    for node in edit.nodes("Clip", "Min", "HardSigmoid"):
        if node.outputs[0].uses() and edit.dtype(node.outputs[0]) in WIDE:
            changed += _hard_swish(edit, node) or _hard_sigmoid(edit, node)
    return changed > 0


def _hard_swish(edit: Edit, node: ir.Node) -> bool:
    try:
        inner, high, nodes = _clipped(edit, node)
    except NoMatch:
        return False
    for top, x, number, pattern in gated(edit, node.outputs[0], nodes):
        try:
            found = _line(edit, pattern, node, inner, x)
        except NoMatch:
            continue
        if _is_line(found, number, SIXTH, 0.5) and close(number * high, 1.0) and pattern.closed(top):
            return _replace(edit, top, x, "HardSwish", {})
    return False


def _hard_sigmoid(edit: Edit, node: ir.Node) -> bool:
    if node.op_type == "HardSigmoid":
        return False
    try:
        inner, high, nodes = _clipped(edit, node)
    except NoMatch:
        return False
    for top in reversed(climb(edit, node.outputs[0])):
        pattern = Pattern(edit, list(nodes))
        try:
            number, factors = product(pattern, top, [node.outputs[0]])
            if len(factors) != 1 or factors[0] is not node.outputs[0] or not close(number * high, 1.0):
                continue
            x = _leaf(edit, inner)
            found = _line(edit, pattern, node, inner, x)
        except NoMatch:
            continue
        alpha, beta = found.get(1, 0.0) * number, found.get(0, 0.0) * number
        if set(found) <= {0, 1} and pattern.closed(top):
            return _replace(edit, top, x, "HardSigmoid", {"alpha": alpha, "beta": beta})
    return False


def _replace(edit: Edit, top: ir.Value, x: ir.Value, op: str, attrs: dict) -> bool:
    last = top.producer()
    if last is None or edit.shape(top) != edit.shape(x):
        return False
    edit.replace(top, edit.insert(last, op, [x], attrs, stem=str(top.name)))
    return True


def _is_line(found: dict[int, float], number: float, slope: float, offset: float) -> bool:
    line = set(found) <= {0, 1}
    return line and close(found.get(1, 0.0) * number, slope) and close(found.get(0, 0.0) * number, offset)


def _line(edit: Edit, pattern: Pattern, node: ir.Node, inner: ir.Value, x: ir.Value) -> dict[int, float]:
    """What is clipped, as a polynomial in x."""
    found = polynomial(pattern, inner, x)
    if node.op_type == "HardSigmoid":
        alpha, beta = float(edit.attr(node, "alpha", 0.2)), float(edit.attr(node, "beta", 0.5))
        return {0: alpha * found.get(0, 0.0) + beta, 1: alpha * found.get(1, 0.0), **{p: 1.0 for p in found if p > 1}}
    return found


def _leaf(edit: Edit, inner: ir.Value) -> ir.Value:
    """The value that something was added to or multiplied with. Raises NoMatch for what is not c * x + d."""
    node = inner.producer()
    while node is not None and not node.domain and node.op_type in ("Add", "Sub", "Mul", "Div"):
        others = [v for v in node.inputs if v is not None and edit.scalar(v) is None]
        if len(others) != 1 or edit.only_use(inner) is None:
            break
        inner = others[0]
        node = inner.producer()
    return inner


def _clipped(edit: Edit, node: ir.Node) -> tuple[ir.Value, float, list[ir.Node]]:
    """(v, high, nodes) of clip(v, 0, high), in one node or two; of HardSigmoid, which clips to 1. Raises NoMatch."""
    value = node.inputs[0]
    low: float | None
    high: float | None
    nodes = [node]
    if node.op_type == "HardSigmoid":
        low, high = 0.0, 1.0
    elif node.op_type == "Clip":
        low, high = _bound(edit, node, 1, "min"), _bound(edit, node, 2, "max")
        if low is None and value is not None:
            value, low = _at_least(edit, value, nodes)
    else:
        high = None
        if len(node.inputs) == 2:
            value, high = _other(edit, node)
        if value is None:
            raise NoMatch
        value, low = _at_least(edit, value, nodes)
    if value is None or low != 0.0 or high is None or not np.isfinite(high) or high <= 0:
        raise NoMatch
    return value, high, nodes


def _at_least(edit: Edit, value: ir.Value, nodes: list[ir.Node]) -> tuple[ir.Value | None, float | None]:
    """(v, low) of max(v, low): Relu, Max or Clip without an upper bound."""
    node = value.producer()
    if node is None or node.domain or node.op_type not in ("Relu", "Max", "Clip") or not node.inputs:
        return value, None
    nodes.append(node)
    if node.op_type == "Relu":
        return node.inputs[0], 0.0
    if node.op_type == "Clip":
        return node.inputs[0], _bound(edit, node, 1, "min") if _bound(edit, node, 2, "max") is None else None
    return _other(edit, node) if len(node.inputs) == 2 else (value, None)


def _other(edit: Edit, node: ir.Node) -> tuple[ir.Value | None, float | None]:
    """The operand that is no number, and the number."""
    a, b = node.inputs
    number = edit.scalar(b)
    return (a, number) if number is not None else (b, edit.scalar(a))


def _bound(edit: Edit, node: ir.Node, index: int, name: str) -> float | None:
    if name in node.attributes:
        return float(edit.attr(node, name))
    if len(node.inputs) <= index or node.inputs[index] is None:
        return None
    number = edit.scalar(node.inputs[index])
    if number is None:
        raise NoMatch
    return number
