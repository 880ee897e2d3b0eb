"""Attention whose products are between quantized values becomes one edgert.IntegerAttention.

    DequantizeLinear(q), DequantizeLinear(k) -> MatMul [-> Mul, Div, Add, Where] -> Softmax -> QuantizeLinear
    -> DequantizeLinear, DequantizeLinear(v) -> MatMul [-> QuantizeLinear]

Both products are sums of integers as in `integer`, and the probabilities are rounded to the same codes, so the answer
is that of the operators one by one but for ties. Heads are read where they lie, as in `attention`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.integer_attention import largest_head
from compiler.ops.quantize import limits
from targets.kernels.attention_integer import takes
from targets.kernels.registry import templates_for
from targets.kernels.tensor import same_shape
from targets.target import Target

from .algebra import NoMatch
from .attention import HEADS_THIRD, as_packed, as_plain, is_product, joined, mask_of, side_of, under_scores
from .edit import EDGERT, Edit
from .integer import requantized, rescaled
from .quantization import BYTES, Quantized, dequantized, quantizer
from .unsigned import as_unsigned


def run(edit: Edit, target: Target) -> bool:
    """Only where the target has a kernel for it."""
    if not templates_for("edgert.IntegerAttention", target):
        return False
    changed = 0
    for node in edit.nodes("Softmax"):
        try:
            _rewrite(edit, node, target)
            changed += 1
        except NoMatch:
            continue
    return changed > 0


def _rewrite(edit: Edit, softmax: ir.Node, target: Target) -> None:
    scores = softmax.inputs[0]
    assert scores is not None
    rank = len(edit.shape(scores))
    axis = int(edit.attr(softmax, "axis", -1 if op_version(softmax, edit.facts) >= 13 else 1))
    if rank not in (3, 4) or axis % rank != rank - 1:
        raise NoMatch
    last, p = _behind(edit, softmax)
    first, factor, masks = under_scores(edit, scores)
    found = [dequantized(edit, value) for value in (*first.inputs[:2], last.inputs[1])]
    # q and k have their depth last, v its keys
    swaps = [
        bool(edit.attr(first, "transA", 0)), not edit.attr(first, "transB", 0), bool(edit.attr(last, "transB", 0))
    ]  # fmt: skip
    parts = [f for f in found if f is not None and f.whole and f.dtype in BYTES]
    if len(parts) < 3:
        raise NoMatch
    sides = [side_of(edit, part.q, swapped, scaled=False) for part, swapped in zip(parts, swaps, strict=True)]
    shapes = [tuple(edit.shape(s.base)[perm] for perm in s.perm) for s in sides]
    heads = shapes[0][1] if rank == 4 else 1
    if any(len(s) != rank or not same_shape(s[: rank - 2], shapes[0][: rank - 2]) for s in shapes):
        raise NoMatch
    if not isinstance(heads, int) or not all(isinstance(s[-1], int) for s in shapes):
        raise NoMatch
    if int(shapes[0][-1]) > largest_head():
        raise NoMatch
    mask = mask_of(edit, last, masks, rank)
    third = rank == 3 or all(side.perm == HEADS_THIRD for side in sides)
    pairs = zip(sides, shapes, strict=True)
    values = [as_packed(edit, last, s, shape) if third else as_plain(edit, last, s) for s, shape in pairs]
    q, k, v = (replace(part, q=value) for part, value in zip(parts, values, strict=True))
    if not takes(q.dtype, target):
        q = as_unsigned(edit, last, q)
    scale = _number(q.scale) * _number(k.scale) * np.float32(factor)
    attrs = {
        "scale": float(scale), "step": float(_number(p.scale)),
        "levels": limits(p.dtype)[1] - int(p.zero.reshape(-1)[0]),
        "q_zero": int(q.zero.reshape(-1)[0]), "k_zero": int(k.zero.reshape(-1)[0]),
        "v_zero": int(v.zero.reshape(-1)[0]), "num_heads": heads, "layout": "BSHD" if third else "BHSD",
    }  # fmt: skip
    inputs = [q.q, k.q, v.q] if mask is None else [q.q, k.q, v.q, mask]
    acc = edit.insert(last, "IntegerAttention", inputs, attrs, EDGERT, stem=str(last.outputs[0].name))
    _finish(edit, last, acc, _number(p.scale) * _number(v.scale), (heads, int(shapes[2][-1])), third and rank == 4)


def _number(scale: np.ndarray) -> np.float32:
    return np.float32(scale.reshape(-1)[0])


def _behind(edit: Edit, softmax: ir.Node) -> tuple[ir.Node, Quantized]:
    """The product of the probabilities and the values, and how the former are quantized."""
    reader = edit.only_use(softmax.outputs[0])
    to = quantizer(edit, reader)
    if reader is None or to is None:
        raise NoMatch
    again = edit.only_use(reader.outputs[0])
    p = None if again is None else dequantized(edit, again.outputs[0])
    if again is None or p is None or not p.same(to):
        raise NoMatch
    last = edit.only_use(again.outputs[0])
    if last is None or not is_product(last) or last.inputs[0] is not again.outputs[0] or edit.attr(last, "transA", 0):
        raise NoMatch
    return last, to


def _finish(
    edit: Edit, last: ir.Node, acc: ir.Value, scale: np.float32, head: tuple[int, int], split: bool
) -> None:  # fmt: skip
    """The sums as what follows them wants them: quantized, or as floats."""
    reader = edit.only_use(last.outputs[0])
    to = quantizer(edit, reader)
    base, scales = np.zeros(1, np.int64), np.full(1, scale, np.float32)
    if reader is None or to is None:
        end, made = last, rescaled(edit, last, acc, base, scales)
    else:
        end, made = reader, requantized(edit, reader, acc, base, scales, to, stem=str(reader.outputs[0].name))
    if split:
        joined(edit, end, made, *head)
    else:
        edit.replace(end.outputs[0], made)
