"""What passes know of quantized values: scale and zero point of a DequantizeLinear or QuantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compiler.ops.quantize import limits

from .edit import Edit

BYTES = ("int8", "uint8")


@dataclass(frozen=True)
class Quantized:
    """real = (q - zero) * scale. scale and zero are arrays: of one number, or of one for each position along `axis`."""

    q: ir.Value
    scale: np.ndarray  # float32
    zero: np.ndarray  # int64, of scale's shape
    dtype: str
    axis: int

    @property
    def whole(self) -> bool:
        """Whether one scale holds for the whole tensor."""
        return self.scale.size == 1

    def same(self, other: Quantized) -> bool:
        """Whether both stand for the same numbers."""
        return (
            self.dtype == other.dtype
            and self.scale.size == other.scale.size
            and bool((self.scale.reshape(-1) == other.scale.reshape(-1)).all())
            and bool((self.zero.reshape(-1) == other.zero.reshape(-1)).all())
            and (self.whole or self.axis == other.axis)
        )


def _parameters(edit: Edit, node: ir.Node, q: ir.Value) -> Quantized | None:
    if edit.attr(node, "block_size", 0) or edit.attr(node, "output_dtype", 0) and node.op_type == "DequantizeLinear":
        return None
    scale = edit.const(node.inputs[1])
    offset = node.inputs[2] if len(node.inputs) > 2 else None
    zero = edit.const(offset)
    if scale is None or scale.dtype != np.float32 or (offset is not None and zero is None):
        return None
    if scale.ndim > 1 and scale.size > 1 or not bool((scale > 0).all()):
        return None
    zeros = np.zeros(scale.shape, np.int64) if zero is None else np.asarray(zero).astype(np.int64)
    rank = max(1, len(edit.shape(q)))
    return Quantized(q, scale, zeros, edit.dtype(q), int(edit.attr(node, "axis", 1)) % rank)


def dequantized(edit: Edit, value: ir.Value | None) -> Quantized | None:
    """What `value` is dequantized from, with constant parameters; None where it is anything else."""
    node = value.producer() if value is not None else None
    if node is None or node.domain or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    return _parameters(edit, node, node.inputs[0])


def quantizer(edit: Edit, node: ir.Node | None) -> Quantized | None:
    """The parameters of a QuantizeLinear to 8 bits with one constant scale; None for any other node."""
    if node is None or node.domain or node.op_type != "QuantizeLinear":
        return None
    found = _parameters(edit, node, node.outputs[0])
    precise = edit.attr(node, "precision", 0) in (0, 1)
    return found if found is not None and found.whole and found.dtype in BYTES and precise else None


def scale_and_zero(edit: Edit, to: Quantized) -> list[ir.Value]:
    """Constants for a new QuantizeLinear or DequantizeLinear with these parameters."""
    zero = to.zero.astype(to.dtype).reshape(to.scale.shape)
    return [edit.constant("scale", to.scale), edit.constant("zero", zero)]


def quantize(edit: Edit, before: ir.Node, value: ir.Value, to: Quantized) -> ir.Value:
    """`value` quantized with those parameters, ahead of `before`."""
    return edit.insert(before, "QuantizeLinear", [value, *scale_and_zero(edit, to)], {"axis": to.axis})


def dequantize(edit: Edit, before: ir.Node, q: ir.Value, of: Quantized) -> ir.Value:
    """`q` dequantized with those parameters, ahead of `before`."""
    return edit.insert(before, "DequantizeLinear", [q, *scale_and_zero(edit, of)], {"axis": of.axis})


def step_of(value: float, to: Quantized) -> int:
    """The integer that QuantizeLinear makes of a number."""
    low, high = limits(to.dtype)
    rounded = np.rint(np.float32(value) / to.scale.reshape(-1)[0])
    return int(np.clip(rounded + to.zero.reshape(-1)[0], low, high))
