"""Which rows of its inputs an operator needs for some rows of its output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.fusion import kind_of
from compiler.passes.edit import EDGERT, Edit
from targets.kernels.tensor import product

WINDOWS = ("Conv2d", "Conv2dInteger", "MaxPool2d", "AveragePool2d", "SumPool2d")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Window:
    """Windows along the rows of an image of `size` rows."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int

    def reach(self, low: int, high: int) -> tuple[int, int]:
        """The rows that windows `low` to `high` (excluded) cover; outside [0, size) is padding."""
        begin = low * self.stride - self.before
        return begin, (high - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True)
class Rule:
    """How rows pass through one node: the axis of rows of each input (None: all of it is needed), and how many.

    per: rows of an input for each row of the output, for operators that only show the same bytes in another shape.
    grain: what the rows of a band are a multiple of; 0: any number. heads: whether the rows are those of whole heads.
    """

    axes: tuple[int | None, ...]
    window: Window | None = None
    per: int = 1
    grain: int = 0
    heads: bool = False

    def rows(self, low: int, high: int) -> tuple[int, int] | None:
        """The input rows that output rows `low` to `high` (excluded) need; None where they are all padding."""
        if self.window is None:
            return low * self.per, high * self.per
        begin, end = self.window.reach(low, high)
        begin, end = max(begin, 0), min(end, self.window.size)
        return (begin, end) if begin < end else None

    def pads(self, low: int, high: int) -> tuple[int, int]:
        """Rows of padding ahead of those rows, and after them."""
        if self.window is None:
            return 0, 0
        begin, end = self.window.reach(low, high)
        return max(-begin, 0), max(end - self.window.size, 0)


def rule(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    """The rule of `node` for rows along `axis` of its only output; None where it cannot be split so."""
    if [v for v in node.outputs if v.uses() or v.is_graph_output()] != [node.outputs[0]]:
        return None
    shapes = [edit.shape(v) for v in (*node.inputs, node.outputs[0]) if v is not None]
    if not all(isinstance(d, int) for shape in shapes for d in shape):
        return None
    special = RULES.get((node.domain, node.op_type))
    if special is not None:
        return special(edit, node, axis)
    return _elementwise(edit, node, axis) if kind_of(node, edit.facts) == "elementwise" else None


def _ints(edit: Edit, value: ir.Value) -> list[int]:
    return [int(d) for d in edit.shape(value)]


def _first(node: ir.Node) -> ir.Value:
    assert node.inputs[0] is not None
    return node.inputs[0]


def _only_first(node: ir.Node, axis: int) -> Rule:
    return Rule((axis, *[None] * (len(node.inputs) - 1)))


def _elementwise(edit: Edit, node: ir.Node, axis: int) -> Rule:
    """Inputs broadcast from the right; one with a single row is needed whole."""
    rank = len(edit.shape(node.outputs[0]))
    axes: list[int | None] = []
    for value in node.inputs:
        at = -1 if value is None else axis - rank + len(edit.shape(value))
        axes.append(None if value is None or at < 0 or edit.shape(value)[at] == 1 else at)
    return Rule(tuple(axes))


def _quantize(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    one = node.inputs[1] is not None and product(edit.shape(node.inputs[1])) == 1
    along = int(edit.attr(node, "axis", 1)) % max(len(edit.shape(node.outputs[0])), 1)
    return None if edit.attr(node, "block_size", 0) or not one and along == axis else _only_first(node, axis)


def _window(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    if axis != 1 or edit.attr(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    if node.op_type.startswith("Conv"):
        assert node.inputs[1] is not None
        kernel = _ints(edit, node.inputs[1])[2]
    else:
        kernel = int(edit.attr(node, "kernel_shape")[0])
    stride, dilation = (int((edit.attr(node, name) or [1])[0]) for name in ("strides", "dilations"))
    pads = edit.attr(node, "pads") or [0] * 4
    size = _ints(edit, _first(node))[1]
    window = Window(size, kernel, stride, dilation, int(pads[0]))
    if edit.attr(node, "count_include_pad", 0):  # rows beyond the padding would count
        _, end = window.reach(0, _ints(edit, node.outputs[0])[1])
        if end > size + int(pads[2]):
            return None
    return Rule((1, *[None] * (len(node.inputs) - 1)), window)


def _transpose(edit: Edit, node: ir.Node, axis: int) -> Rule:
    perm = edit.attr(node, "perm") or list(range(len(edit.shape(node.outputs[0]))))[::-1]
    return Rule((int(perm[axis]),))


def _view(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    """The axis of the input that begins at the same stride, and has as many rows or a multiple of them."""
    source, shown = _ints(edit, _first(node)), _ints(edit, node.outputs[0])
    outer = math.prod(shown[:axis])
    for at, rows in enumerate(source):
        whole = outer == 1 and rows % shown[axis] == 0 and rows > 1
        if math.prod(source[:at]) == outer and (rows == shown[axis] or whole):
            return Rule((at, *[None] * (len(node.inputs) - 1)), per=rows // shown[axis])
    return None


def _gemm(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    ranks = len(edit.shape(_first(node))), len(edit.shape(node.outputs[0]))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    wide = bias is not None and len(edit.shape(bias)) > 1
    if bias is None and ranks[0] == ranks[1] == axis + 1:  # columns of the weights
        return Rule((None, 0 if edit.attr(node, "transB", 0) else 1))
    return None if ranks[0] != ranks[1] or axis >= ranks[1] - 1 or wide else _only_first(node, axis)


def _matmul(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    """Rows of the left side; its columns and its batch stay whole."""
    if edit.attr(node, "transA", 0):
        return None
    rank, left = len(edit.shape(node.outputs[0])), len(edit.shape(_first(node)))
    return _only_first(node, left - 2) if axis == rank - 2 and left >= 2 and rank >= 2 else None


def _attention(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    """Rows of queries, and of a mask that has a row for each, keys and values whole; or whole heads."""
    query = _first(node)
    rank = len(edit.shape(query))
    if rank == 3 and axis == 2 and (len(node.inputs) < 4 or node.inputs[3] is None):
        shapes = [_ints(edit, v) for v in (*node.inputs[:3], node.outputs[0]) if v is not None]
        alike = len({shape[2] for shape in shapes}) == 1 and edit.attr(node, "num_heads")
        return Rule((2, 2, 2), grain=shapes[0][2] // int(edit.attr(node, "num_heads")), heads=True) if alike else None
    heads_first = rank == 4 and edit.attr(node, "layout", "BHSD") == "BHSD"
    if rank != len(edit.shape(node.outputs[0])) or axis != (2 if heads_first else 1) or edit.attr(node, "causal", 0):
        return None
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    rows = len(edit.shape(mask)) - 2 if mask is not None else -1
    if mask is None or rows < 0 or edit.shape(mask)[rows] == 1:
        return _only_first(node, axis)
    return Rule((axis, None, None, rows, *[None] * (len(node.inputs) - 4)))


def _along_the_end(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    """Softmax and normalizations over axes behind that of the rows."""
    rank = len(edit.shape(node.outputs[0]))
    before_13 = node.op_type == "Softmax" and op_version(node, edit.facts) < 13
    over = int(edit.attr(node, "axis", 1 if before_13 else -1)) % rank
    return _only_first(node, axis) if over > axis else None


def _concat(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    along = int(edit.attr(node, "axis")) % len(edit.shape(node.outputs[0]))
    return None if along == axis else Rule(tuple(axis for _ in node.inputs))


def _gather(edit: Edit, node: ir.Node, axis: int) -> Rule | None:
    """Rows of the indices; what is picked from stays whole."""
    indices = node.inputs[1]
    along = int(edit.attr(node, "axis", 0))
    if indices is None or along != 0 or axis >= len(edit.shape(indices)):
        return None
    return Rule((None, axis, *[None] * (len(node.inputs) - 2)))


RULES: dict[tuple[str, str], Callable[[Edit, ir.Node, int], Rule | None]] = {
    **{(EDGERT, name): _window for name in WINDOWS},
    **{("", name): _view for name in VIEWS},
    **{(EDGERT, name): _gemm for name in ("Gemm", "GemmInteger")},
    **{("", name): _along_the_end for name in ("Softmax", "LayerNormalization", "RMSNormalization")},
    ("", "Identity"): _elementwise,
    ("", "Transpose"): _transpose,
    ("", "MatMul"): _matmul,
    (EDGERT, "MatMul"): _matmul,
    (EDGERT, "MatMulInteger"): _matmul,
    (EDGERT, "Attention"): _attention,
    (EDGERT, "IntegerAttention"): _attention,
    ("", "Concat"): _concat,
    ("", "Gather"): _gather,
    (EDGERT, "GatherBlocked"): _gather,
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _quantize,
}


def attributes(edit: Edit, node: ir.Node, made: Rule, low: int, high: int) -> dict[str, Any]:
    """The node's attributes for output rows `low` to `high` (excluded)."""
    attrs = {name: attr.value for name, attr in node.attributes.items()}
    if made.heads:
        attrs["num_heads"] = (high - low) // made.grain
    if made.window is None:
        return attrs
    top, bottom = made.pads(low, high)
    left, right = (int((edit.attr(node, "pads") or [0] * 4)[i]) for i in (1, 3))
    attrs["pads"] = [top, left, bottom, right]
    if attrs.pop("ceil_mode", 0) or attrs.get("output_shape"):
        attrs["output_shape"] = [high - low, _ints(edit, node.outputs[0])[2]]
    return attrs
