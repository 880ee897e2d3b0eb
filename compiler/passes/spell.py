"""How QLinear operators on tensors are written with DequantizeLinear and QuantizeLinear; see spell_quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from .edit import MODERN, Edit

MS = "com.microsoft"
CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")


def given(node: ir.Node, i: int) -> ir.Value | None:
    """Input i, None where it is left out."""
    value = node.inputs[i] if i < len(node.inputs) else None
    return value if value is not None and value.name else None


def attributes(node: ir.Node, *names: str) -> dict[str, Any]:
    """Those attributes that the node has."""
    return {name: node.attributes[name].value for name in names if name in node.attributes}


class Step:
    """A scale and its zero point, both constants: of one number, or of one for each position along an axis."""

    def __init__(self, edit: Edit, scale: ir.Value | None, zero: ir.Value | None, dtype: str) -> None:
        found, offset = edit.const(scale), edit.const(zero)
        self.known = found is not None and (zero is None or offset is not None)
        self.dtype = dtype
        if found is not None and self.known:
            self.scale = _tidy(np.asarray(found, np.float32))
            plain = np.zeros(self.scale.shape, dtype) if offset is None else _tidy(np.asarray(offset))
            self.zero = np.broadcast_to(plain, self.scale.shape) if plain.size == 1 else plain
            if self.zero.size > 1 and self.scale.size == 1:
                self.scale = np.broadcast_to(self.scale, self.zero.shape)
            self.known = self.zero.shape == self.scale.shape and self.scale.ndim <= 1

    @property
    def single(self) -> bool:
        """Whether it holds for a whole tensor."""
        return self.known and self.scale.ndim == 0

    def same(self, other: Step) -> bool:
        """Whether both are single and equal."""
        return self.single and other.single and self.scale == other.scale and self.zero == other.zero

    def values(self, edit: Edit) -> list[ir.Value]:
        """Scale and zero point as constants."""
        return [edit.constant("scale", self.scale), edit.constant("zero", self.zero)]


def _tidy(array: np.ndarray) -> np.ndarray:
    return array.reshape(()) if array.size == 1 else array


def step(edit: Edit, node: ir.Node, scale: int, zero: int, dtype: str) -> Step:
    """The parameters at those two inputs, for a tensor of `dtype`."""
    return Step(edit, given(node, scale), given(node, zero), dtype)


def floated(edit: Edit, node: ir.Node, q: ir.Value, by: Step, axis: int = 0) -> ir.Value:
    """DequantizeLinear ahead of `node`."""
    attrs = {} if by.single else {"axis": axis}
    return edit.insert(node, "DequantizeLinear", [q, *by.values(edit)], attrs)


def rounded(edit: Edit, node: ir.Node, value: ir.Value, to: Step) -> ir.Value:
    """QuantizeLinear ahead of `node`, with its output's name as stem."""
    return edit.insert(node, "QuantizeLinear", [value, *to.values(edit)], stem=str(node.outputs[0].name))


def dynamic(edit: Edit, node: ir.Node, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """DynamicQuantizeLinear ahead of `node`: bytes, scale, zero point."""
    outputs = [ir.Value(name=edit.name(stem)) for stem in ("quantized", "scale", "zero")]
    made = ir.node("DynamicQuantizeLinear", [x], outputs=outputs, name=outputs[0].name, version=MODERN)
    edit.graph.insert_before(node, made)
    edit.infer(made)
    return made.outputs[0], made.outputs[1], made.outputs[2]


def elementwise(op: str, count: int) -> Callable[[Edit, ir.Node], ir.Value | None]:
    """For operators with `count` inputs, each followed by scale and zero point, then the output's."""

    def spell(edit: Edit, node: ir.Node) -> ir.Value | None:
        return _around(edit, node, count, op, attributes(node, "alpha") if op == "LeakyRelu" else {})

    return spell


def _around(edit: Edit, node: ir.Node, count: int, op: str, attrs: dict[str, Any]) -> ir.Value | None:
    inputs = [v for v in (node.inputs[3 * k] for k in range(count)) if v is not None]
    if len(inputs) != count:
        return None
    dtype = edit.dtype(inputs[0])
    # the output's scale stands where the next input would: one place earlier
    places = [*(3 * k + 1 for k in range(count)), 3 * count]
    steps = [step(edit, node, k, k + 1, dtype) for k in places]
    if not all(s.single for s in steps):
        return None
    reals = [floated(edit, node, v, s) for v, s in zip(inputs, steps[:-1], strict=True)]
    return rounded(edit, node, edit.insert(node, op, reals, attrs), steps[count])


def pool(op: str) -> Callable[[Edit, ir.Node], ir.Value | None]:
    """For pools with the channels in axis 1."""

    def spell(edit: Edit, node: ir.Node) -> ir.Value | None:
        if edit.attr(node, "channels_last", 0):
            return None
        return _around(edit, node, 1, op, attributes(node, *POOL) if op == "AveragePool" else {})

    return spell


def softmax(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Over one axis, as before opset 13 too where that is the last.

    ONNX Runtime takes the output's steps in 1 as a whole number (it rounds 1 / scale down), so here too.
    """
    x = node.inputs[0]
    if x is None:
        return None
    before = edit.attr(node, "opset") < 13
    axis, rank = edit.attr(node, "axis", 1 if before else -1), len(edit.shape(x))
    if before and axis % rank == rank - 1:
        before, axis = False, -1
    of, to = step(edit, node, 1, 2, edit.dtype(x)), step(edit, node, 3, 4, edit.dtype(x))
    if not (of.single and to.single) or to.scale > 1:
        return None
    to.scale = np.asarray(np.float32(1) / np.floor(np.float32(1) / to.scale))
    value = edit.insert(node, "Softmax", [floated(edit, node, x, of)], {"axis": axis}, version=11 if before else 21)
    return rounded(edit, node, value, to)


def concat(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Of the bytes themselves where all have the output's scale."""
    zero = node.inputs[1]
    if zero is None:
        return None
    to = step(edit, node, 0, 1, edit.dtype(zero))
    parts = [v for v in node.inputs[2::3] if v is not None and edit.dtype(v) == to.dtype]
    if len(parts) * 3 != len(node.inputs) - 2:
        return None
    steps = [step(edit, node, 3 * k + 3, 3 * k + 4, to.dtype) for k in range(len(parts))]
    if not all(s.single for s in (to, *steps)):
        return None
    attrs = attributes(node, "axis")
    if all(s.same(to) for s in steps):
        return edit.insert(node, "Concat", parts, attrs)
    reals = [floated(edit, node, v, s) for v, s in zip(parts, steps, strict=True)]
    return rounded(edit, node, edit.insert(node, "Concat", reals, attrs), to)


def whole(edit: Edit, node: ir.Node) -> ir.Value | None:
    """ONNX's own QuantizeLinear."""
    return edit.insert(node, "QuantizeLinear", list(node.inputs), attributes(node, "axis"))


def real(edit: Edit, node: ir.Node) -> ir.Value | None:
    """ONNX's own DequantizeLinear."""
    return edit.insert(node, "DequantizeLinear", list(node.inputs), attributes(node, "axis"))


def conv(edit: Edit, node: ir.Node) -> ir.Value | None:
    """x and constant weights, by channel where they are; the int32 bias has the product of their scales."""
    x, w, bias = node.inputs[0], node.inputs[3], given(node, 8)
    if x is None or w is None or edit.const(w) is None or edit.attr(node, "channels_last", 0):
        return None
    of_x, of_w = step(edit, node, 1, 2, edit.dtype(x)), step(edit, node, 4, 5, edit.dtype(w))
    to = step(edit, node, 6, 7, edit.dtype(node.outputs[0]))
    if not (of_x.single and of_w.known and to.single):
        return None
    inputs = [floated(edit, node, x, of_x), floated(edit, node, w, of_w)]
    if bias is not None:
        inputs.append(integer_bias(edit, node, bias, of_x.scale * of_w.scale, 0))
    return rounded(edit, node, edit.insert(node, "Conv", inputs, attributes(node, *CONV)), to)


def integer_bias(edit: Edit, node: ir.Node, bias: ir.Value, scale: np.ndarray, axis: int) -> ir.Value:
    """An int32 value as float32: times the scale, one or one for each position along `axis`."""
    attrs = {} if scale.ndim == 0 else {"axis": axis}
    return edit.insert(node, "DequantizeLinear", [bias, edit.constant("scale", np.asarray(scale, np.float32))], attrs)
