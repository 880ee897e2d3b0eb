"""x * 0.5 * (1 + erf(x / sqrt 2)), and its approximation through tanh, in any order of factors, become one Gelu.

Hendrycks and Gimpel, arXiv 1606.08415: Phi(x) = 0.5 (1 + erf(x / sqrt 2)), about
0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
"""

from __future__ import annotations

import math

import onnx_ir as ir

from targets.target import Target

from .algebra import WIDE, NoMatch, Pattern, close, gated, is_polynomial, operands, polynomial
from .edit import Edit

INNER = {
    "Erf": ("none", {1: math.sqrt(0.5)}),
    "Tanh": ("tanh", {1: math.sqrt(2 / math.pi), 3: math.sqrt(2 / math.pi) * 0.044715}),
}


def run(edit: Edit, target: Target) -> bool:
    """Each Erf or Tanh may lie inside one Gelu."""
    return sum(_rewrite(edit, node) for node in edit.nodes("Erf", "Tanh")) > 0


def _rewrite(edit: Edit, node: ir.Node) -> bool:
    inner = node.inputs[0]
    if inner is None or edit.dtype(inner) not in WIDE:
        return False
    approximate, wanted = INNER[node.op_type]
    try:
        gate, half, seen = _plus_one(edit, node)
    except NoMatch:
        return False
    for top, x, number, pattern in gated(edit, gate, [node, *seen]):
        try:
            found = polynomial(pattern, inner, x)
        except NoMatch:
            continue
        if not close(number * half, 0.5) or not is_polynomial(found, wanted) or not pattern.closed(top):
            continue
        if edit.shape(top) != edit.shape(x):
            continue
        last = top.producer()
        assert last is not None
        made = edit.insert(last, "Gelu", [x], {"approximate": approximate}, stem=str(top.name))
        edit.replace(top, made)
        return True
    return False


def _plus_one(edit: Edit, node: ir.Node) -> tuple[ir.Value, float, list[ir.Node]]:
    """The value c * (1 + f) for the result f of `node`, c, and the nodes between."""
    pattern = Pattern(edit)
    user = edit.only_use(node.outputs[0])
    factor = 1.0
    if user is not None and user.op_type == "Mul" and not user.domain:
        _, factor = operands(edit, user)
        pattern.take(user)
        user = edit.only_use(user.outputs[0])
    if user is None or user.op_type != "Add" or user.domain:
        raise NoMatch
    _, one = operands(edit, user)
    if not close(one, factor):
        raise NoMatch
    pattern.take(user)
    return user.outputs[0], factor, pattern.nodes
