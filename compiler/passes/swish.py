"""x * sigmoid(a x) becomes Swish, x * tanh(softplus(x)) becomes Mish: one node that fuses behind a convolution.

Ramachandran et al., arXiv 1710.05941; Misra, arXiv 1908.08681.
"""

from __future__ import annotations

import onnx_ir as ir

from targets.target import Target

from .algebra import WIDE, NoMatch, Pattern, close, gated, polynomial
from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Swish is of opset 24, Mish of opset 18; what matches is written in those."""
    changed = 0
    for node in edit.nodes("Sigmoid", "Tanh"):
        if node.inputs[0] is not None and edit.dtype(node.inputs[0]) in WIDE:
            changed += _rewrite(edit, node)
    return changed > 0


def _rewrite(edit: Edit, node: ir.Node) -> bool:
    for top, x, number, pattern in gated(edit, node.outputs[0], [node]):
        last = top.producer()
        if not close(number, 1.0) or edit.shape(top) != edit.shape(x) or last is None:
            continue
        try:
            op, version, attrs = _gate(edit, pattern, node, x)
        except NoMatch:
            continue
        if pattern.closed(top):
            edit.replace(top, edit.insert(last, op, [x], attrs, stem=str(top.name), version=version))
            return True
    return False


def _gate(edit: Edit, pattern: Pattern, node: ir.Node, x: ir.Value) -> tuple[str, int, dict[str, float]]:
    """The operator that x * (the result of `node`) is, its opset and attributes. Raises NoMatch."""
    inner = node.inputs[0]
    if inner is None:
        raise NoMatch
    if node.op_type == "Sigmoid":
        found = polynomial(pattern, inner, x)
        if set(found) != {1}:
            raise NoMatch
        return "Swish", 24, {"alpha": found[1]}
    softplus = pattern.producer(inner, "Softplus")
    if softplus.inputs[0] is not x:
        raise NoMatch
    return "Mish", 18, {}
