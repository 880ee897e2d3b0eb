"""softmax(Q K^T * scale + mask) V becomes one edgert.Attention, which never writes the scores to memory.

Heads that were split off a [batch, length, heads * size] value by Reshape and Transpose are read where they lie, so
those transposes go, on the way in and on the way out. A row whose keys are all masked with minus infinity gives zeros,
where the spelled-out form divides zero by zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from targets.kernels.registry import templates_for
from targets.kernels.tensor import same_shape
from targets.target import Target

from .algebra import NoMatch, operands, there
from .edit import EDGERT, Edit

HEADS_FIRST, HEADS_THIRD = [0, 1, 2, 3], [0, 2, 1, 3]


def run(edit: Edit, target: Target) -> bool:
    """Only where the target has a kernel for it."""
    if not templates_for("edgert.Attention", target):
        return False
    changed = 0
    for node in edit.nodes("Softmax"):
        try:
            _rewrite(edit, node)
            changed += 1
        except NoMatch:
            continue
    return changed > 0


@dataclass
class Side:
    """Q, K or V as [batch, heads, length, size]: `base` transposed by `perm`, times `factor`."""

    base: ir.Value
    perm: list[int]
    factor: float = 1.0


def _rewrite(edit: Edit, softmax: ir.Node) -> None:
    scores, weights = softmax.inputs[0], softmax.outputs[0]
    assert scores is not None
    rank = len(edit.shape(scores))
    axis = int(edit.attr(softmax, "axis", -1 if op_version(softmax, edit.facts) >= 13 else 1))
    if rank not in (3, 4) or axis % rank != rank - 1:
        raise NoMatch
    last = edit.only_use(weights)
    if last is None or not is_product(last) or last.inputs[0] is not weights or edit.attr(last, "transA", 0):
        raise NoMatch
    first, factor, masks = under_scores(edit, scores)
    q = side_of(edit, first.inputs[0], bool(edit.attr(first, "transA", 0)))
    k = side_of(edit, first.inputs[1], not edit.attr(first, "transB", 0))
    v = side_of(edit, last.inputs[1], bool(edit.attr(last, "transB", 0)), scaled=False)
    shapes = [tuple(edit.shape(s.base)[p] for p in s.perm) for s in (q, k, v)]
    heads = shapes[0][1] if rank == 4 else 1
    if any(len(s) != rank or not same_shape(s[: rank - 2], shapes[0][: rank - 2]) for s in shapes):
        raise NoMatch
    if not isinstance(heads, int) or not all(isinstance(s[-1], int) for s in shapes):
        raise NoMatch
    mask = mask_of(edit, last, masks, rank)
    packed = rank == 3 or all(side.perm == HEADS_THIRD for side in (q, k, v))
    pairs = zip((q, k, v), shapes, strict=True)
    sides = [as_packed(edit, last, s, shape) if packed else as_plain(edit, last, s) for s, shape in pairs]
    attrs = {
        "scale": float(factor * q.factor * k.factor), "causal": 0, "num_heads": heads,
        "layout": "BSHD" if packed else "BHSD",
    }  # fmt: skip
    inputs = [*sides, mask] if mask is not None else sides
    made = edit.insert(last, "Attention", inputs, attrs, EDGERT, stem=str(last.outputs[0].name))
    if packed and rank == 4:
        joined(edit, last, made, heads, int(shapes[2][-1]))
    else:
        edit.replace(last.outputs[0], made)


def is_product(node: ir.Node | None) -> bool:
    """Whether `node` multiplies two values that are both known only at run time."""
    return node is not None and node.op_type == "MatMul" and node.domain == EDGERT


def under_scores(edit: Edit, scores: ir.Value) -> tuple[ir.Node, float, list[tuple[ir.Value, bool]]]:
    """The product of Q and K under `scores`, the factor it is scaled by, the masks added (True: where not to look)."""
    value, factor, masks = scores, 1.0, list[tuple[ir.Value, bool]]()
    while True:
        node = value.producer()
        if node is None or edit.only_use(value) is None:
            raise NoMatch
        if is_product(node):
            return node, factor, masks
        if node.domain or node.op_type not in ("Add", "Where", "Mul", "Div"):
            raise NoMatch
        below: ir.Value | None
        if node.op_type in ("Mul", "Div"):
            below, number = operands(edit, node)
            factor *= number if node.op_type == "Mul" else 1.0 / number if number else np.inf
        elif factor != 1.0:
            raise NoMatch  # a mask that is scaled as well
        elif node.op_type == "Add":
            a, b = node.inputs
            below, added = (a, b) if _leads_to_product(edit, a) else (b, a)
            masks.append((there(added), False))
        else:
            below, mask = _where(edit, node)
            masks.append(mask)
        if not np.isfinite(factor) or below is None or not same_shape(edit.shape(below), edit.shape(value)):
            raise NoMatch
        value = below


def _leads_to_product(edit: Edit, value: ir.Value | None) -> bool:
    """Whether a product of two values lies under `value`, behind masks and factors."""
    for _ in range(4):
        node = value.producer() if value is not None else None
        if node is None or is_product(node):
            return node is not None
        if node.domain or node.op_type not in ("Add", "Where", "Mul", "Div"):
            return False
        value = next((v for v in node.inputs if v is not None and _leads_to_product(edit, v)), None)
    return False


def _where(edit: Edit, node: ir.Node) -> tuple[ir.Value | None, tuple[ir.Value, bool]]:
    """Where(seen, scores, -inf) or Where(hidden, -inf, scores)."""
    condition, a, b = node.inputs
    for scores, other, hidden in ((a, b, False), (b, a, True)):
        if edit.scalar(other) == -np.inf:
            return scores, (there(condition), hidden)
    raise NoMatch


def side_of(edit: Edit, value: ir.Value | None, swapped: bool, scaled: bool = True) -> Side:
    """What lies under transposes and (where `scaled`) factors. swapped: `value` has its last two axes exchanged."""
    value = there(value)
    perm = list(range(len(edit.shape(value))))
    if swapped:
        perm[-2:] = perm[:-3:-1]
    side = Side(value, perm)
    while (node := side.base.producer()) is not None and not node.domain:
        if node.op_type == "Transpose" and node.inputs[0] is not None:
            inner = list(edit.attr(node, "perm") or reversed(perm))
            side = Side(node.inputs[0], [inner[p] for p in side.perm], side.factor)
        elif scaled and node.op_type in ("Mul", "Div") and edit.only_use(side.base) is not None:
            try:
                below, number = operands(edit, node)
            except NoMatch:
                break
            if number == 0 or not same_shape(edit.shape(below), edit.shape(side.base)):
                break
            side = Side(below, side.perm, side.factor * (number if node.op_type == "Mul" else 1.0 / number))
        else:
            break
    return side


def as_plain(edit: Edit, before: ir.Node, side: Side) -> ir.Value:
    """The side as [batch, heads, length, size]."""
    if side.perm == HEADS_FIRST:
        return side.base
    return _turned(edit, before, side)


def _turned(edit: Edit, before: ir.Node, side: Side) -> ir.Value:
    return edit.insert(before, "Transpose", [side.base], {"perm": side.perm})


def as_packed(edit: Edit, before: ir.Node, side: Side, shape: tuple) -> ir.Value:
    """The side as [batch, length, heads * size]: what the heads were split from, where there is such a value."""
    if len(shape) == 3:
        return side.base if side.perm == [0, 1, 2] else _turned(edit, before, side)
    wanted = [shape[0], shape[2], shape[1] * shape[3]]
    node = side.base.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Reshape" and not node.domain else None
    if source is not None and same_shape(edit.shape(source), tuple(wanted)):
        return source
    return edit.insert(before, "Reshape", [side.base, edit.constant("shape", np.array([0, 0, wanted[2]], np.int64))])


def joined(edit: Edit, last: ir.Node, made: ir.Value, heads: int, size: int) -> None:
    """Puts the packed result in the place of Reshape(Transpose(result)), or of the result itself."""
    turn = edit.only_use(last.outputs[0])
    if turn is not None and turn.op_type == "Transpose" and list(edit.attr(turn, "perm") or []) == HEADS_THIRD:
        join = edit.only_use(turn.outputs[0])
        whole = join.outputs[0] if join is not None and join.op_type == "Reshape" and not join.domain else None
        if whole is not None and same_shape(edit.shape(whole), edit.shape(made)):
            edit.replace(whole, made)
            return
    split = edit.insert(last, "Reshape", [made, edit.constant("shape", np.array([0, 0, heads, size], np.int64))])
    edit.replace(last.outputs[0], edit.insert(last, "Transpose", [split], {"perm": HEADS_THIRD}))


def mask_of(edit: Edit, before: ir.Node, masks: list[tuple[ir.Value, bool]], rank: int) -> ir.Value | None:
    """The one mask that all masks make together, broadcastable to [batch, heads, length, keys]."""
    found: list[ir.Value] = []
    for mask, hidden in masks:
        found.append(edit.insert(before, "Not", [mask]) if hidden else mask)
    if len(found) > 1 and any(edit.dtype(m) == "bool" for m in found):
        raise NoMatch
    while len(found) > 1:
        found[:2] = [edit.insert(before, "Add", found[:2])]
    if found and rank == 3 and len(edit.shape(found[0])) == 3:
        return edit.insert(before, "Unsqueeze", [found[0], edit.constant("axes", np.array([1], np.int64))])
    return found[0] if found else None
