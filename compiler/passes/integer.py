"""Float operators between DequantizeLinear and QuantizeLinear become integer kernels.

    DequantizeLinear(x), DequantizeLinear(w) -> Conv2d | Gemm [-> Add bias] [-> Relu | Clip] -> QuantizeLinear
    becomes   Conv2dInteger | GemmInteger -> Requantize,
    and       ... -> Rescale -> (floats) where nothing quantizes the result at once.

With x = (qx - zx) sx and w = qw sw the sum is sx sw (sum(qx qw) - zx sum(qw)); the second term is a constant and goes
into the bias with the float bias, if that was quantized with scale sx sw (Jacob et al. 2018, section 2). Runs when
convolutions are NHWC and products have their own operators.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from compiler.ops.quantize import limits
from targets.kernels.dot import dot_of
from targets.target import Target

from .edit import EDGERT, Edit
from .halves import WIDE, halves
from .quantization import BYTES, Quantized, dequantized, quantizer, step_of
from .unsigned import as_unsigned

POOLS = ("GlobalAveragePool2d", "AveragePool2d")


def run(edit: Edit, target: Target) -> bool:
    """Convolutions, products and average pools, in order."""
    changed = False
    for node in edit.nodes("Conv2d", "Gemm", domain=EDGERT):
        changed |= _product(edit, node, dot_of(target).signed_left)
    for node in edit.nodes(*POOLS, domain=EDGERT):
        changed |= _pool(edit, node)
    return changed


def _product(edit: Edit, node: ir.Node, signed: bool) -> bool:
    x, w = dequantized(edit, node.inputs[0]), dequantized(edit, node.inputs[1])
    if x is None or w is None or not x.whole or w.q.name not in edit.facts.constants:
        return False
    axis = 0 if node.op_type == "Conv2d" or edit.attr(node, "transB", 0) else 1
    weights = centred(edit, w, axis)
    if weights is None or x.dtype not in (*BYTES, *WIDE):
        return False
    channels = edit.shape(weights.q)[axis]
    scale = (np.float32(x.scale.reshape(-1)[0]) * w.scale.reshape(-1)).astype(np.float32)
    scale = np.broadcast_to(scale, (channels,))
    if x.dtype in WIDE:
        parts = [
            rescaled(edit, node, *_sums(edit, node, half, weights.q, axis), scale * np.float32(weight))
            for half, weight in halves(edit, node, x)
        ]
        edit.replace(node.outputs[0], edit.insert(node, "Add", parts))
        return True
    if x.dtype == "int8" and not signed:
        x = as_unsigned(edit, node, x)
    finish(edit, node, *_sums(edit, node, x, weights.q, axis), scale)
    return True


def _sums(edit: Edit, node: ir.Node, x: Quantized, w: ir.Value, axis: int) -> tuple[ir.Value, np.ndarray]:
    """The raw sums, and what is to be added to them for x's zero point."""
    data = np.asarray(edit.const(w)).astype(np.int64)
    zero = int(x.zero.reshape(-1)[0])
    inputs: list[ir.Value | None] = [x.q, w]
    if node.op_type == "Conv2d":
        inputs.append(edit.constant("border", np.array(zero, x.dtype)))
    attrs = {name: attr.value for name, attr in node.attributes.items()}
    acc = edit.insert(node, f"{node.op_type}Integer", inputs, attrs, EDGERT, stem=str(node.outputs[0].name))
    return acc, -zero * data.sum(axis=tuple(a for a in range(data.ndim) if a != axis))


def rescaled(edit: Edit, node: ir.Node, acc: ir.Value, base: np.ndarray, scale: np.ndarray) -> ir.Value:
    """(acc + base) * scale as floats."""
    offset = edit.constant("bias", np.clip(base, *limits("int32")).astype(np.int32))
    return edit.insert(node, "Rescale", [acc, offset, edit.constant("scale", scale)], {}, EDGERT)


def centred(edit: Edit, w: Quantized, axis: int) -> Quantized | None:
    """Constant weights as int8 around 0; None where they do not fit, or their scales lie along another axis."""
    if w.dtype not in BYTES or not w.whole and w.axis != axis:
        return None
    data = np.asarray(edit.const(w.q))
    if w.dtype == "int8" and not w.zero.any():
        return w
    wide = [1] * data.ndim
    wide[axis] = -1
    low, high = limits("int8")
    moved = data.astype(np.int64) - (w.zero.reshape(()) if w.whole else w.zero.reshape(wide))
    if moved.min(initial=0) < low or moved.max(initial=0) > high:
        return None
    q = edit.constant(f"{w.q.name}.centred", moved.astype(np.int8))
    return replace(w, q=q, zero=np.zeros_like(w.zero), dtype="int8")


def _pool(edit: Edit, node: ir.Node) -> bool:
    x = dequantized(edit, node.inputs[0])
    if x is None or not x.whole or x.dtype not in BYTES:
        return False
    shape = edit.shape(x.q)
    kernel = list(edit.attr(node, "kernel_shape") or shape[1:3])
    if any(edit.attr(node, "pads") or ()) or not all(isinstance(k, int) for k in (*kernel, shape[3])):
        return False
    attrs = {name: attr.value for name, attr in node.attributes.items() if name != "count_include_pad"}
    acc = edit.insert(node, "SumPool2d", [x.q], attrs | {"kernel_shape": kernel}, EDGERT)
    if any(a != b for a, b in zip(edit.shape(acc), edit.shape(node.outputs[0]), strict=True)):
        return False  # the last windows reach outside
    count = int(kernel[0]) * int(kernel[1])
    base = np.full(int(shape[3]), -int(x.zero.reshape(-1)[0]) * count, np.int64)
    scale = np.full(1, x.scale.reshape(-1)[0] / np.float32(count), np.float32)
    finish(edit, node, acc, base, scale)
    return True


def finish(edit: Edit, node: ir.Node, acc: ir.Value, base: np.ndarray, scale: np.ndarray) -> None:
    """What follows the sums of `node`: bias, activation and QuantizeLinear in one operator, as far as they go."""
    end = node.outputs[0]
    reader = edit.only_use(end)
    bias = _bias(edit, reader, end, scale)
    if bias is not None and reader is not None:
        base, end = base + bias, reader.outputs[0]
    low, high, last = activation(edit, end)
    reader = edit.only_use(last)
    to = quantizer(edit, reader)
    if to is None or reader is None:
        edit.replace(end, rescaled(edit, node, acc, base, scale))
        return
    stem = str(reader.outputs[0].name)
    made = requantized(edit, node, acc, base, scale, to, (low, high), stem)
    edit.replace(reader.outputs[0], made)


def requantized(
    edit: Edit, node: ir.Node, acc: ir.Value, base: np.ndarray, scale: np.ndarray, to: Quantized,
    bounds: tuple[float, float] = (-np.inf, np.inf), stem: str | None = None,
) -> ir.Value:  # fmt: skip
    """(acc + base) * scale within `bounds`, quantized."""
    (low, high), (first, final) = bounds, limits(to.dtype)
    attrs = {
        "zero": int(to.zero.reshape(-1)[0]), "to": to.dtype,
        "low": first if low == -np.inf else max(first, step_of(low, to)),
        "high": final if high == np.inf else min(final, step_of(high, to)),
    }  # fmt: skip
    offset = edit.constant("bias", np.clip(base, *limits("int32")).astype(np.int32))
    factor = edit.constant("multiplier", (scale / to.scale.reshape(-1)[0]).astype(np.float32))
    return edit.insert(node, "Requantize", [acc, offset, factor], attrs, EDGERT, stem=stem)


def _bias(edit: Edit, reader: ir.Node | None, value: ir.Value, scale: np.ndarray) -> np.ndarray | None:
    """The integers that an Add behind `value` adds, where they were quantized with the sums' own scale."""
    if reader is None or reader.domain or reader.op_type != "Add":
        return None
    other = reader.inputs[1] if reader.inputs[0] is value else reader.inputs[0]
    found = dequantized(edit, other)
    if found is None or found.dtype != "int32" or found.zero.any() or found.q.name not in edit.facts.constants:
        return None
    data = np.asarray(edit.const(found.q))
    wide, given = np.broadcast_to(scale, (max(scale.size, data.size),)), found.scale.reshape(-1)
    if data.size != data.shape[-1] if data.ndim else True:
        return None
    # a scale product may have been rounded otherwise by whoever wrote the model
    if not np.allclose(np.broadcast_to(given, wide.shape), wide, rtol=1e-5, atol=0):
        return None
    return data.reshape(-1).astype(np.int64)


def activation(edit: Edit, value: ir.Value) -> tuple[float, float, ir.Value]:
    """The bounds that Relu and Clip behind `value` keep it in, and the last value of them."""
    low, high = -np.inf, np.inf
    while (bounds := _bounds(edit, reader := edit.only_use(value))) is not None and reader is not None:
        low, high, value = max(low, bounds[0]), min(high, bounds[1]), reader.outputs[0]
    return low, high, value


def _bounds(edit: Edit, node: ir.Node | None) -> tuple[float, float] | None:
    """The bounds that a Relu or Clip keeps values in."""
    if node is None or node.domain:
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    bounds = []
    for i, (name, otherwise) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = node.inputs[i] if len(node.inputs) > i else None
        bound = edit.attr(node, name, otherwise) if given is None else edit.scalar(given)
        if bound is None:
            return None
        bounds.append(float(bound))
    return bounds[0], bounds[1]
