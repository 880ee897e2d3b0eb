"""Convolutions, pools and what lies between them on NHWC; transposes stay only where the layout must change.

Activations are stored channels-last: a 1x1 convolution then is a matrix product on the memory as it lies, a depthwise
one vectorises over channels, and every later target (microcontrollers too) wants the same. One forward sweep: each
operator that has an NHWC form takes its inputs' NHWC twins and leaves a twin of its output; the NCHW value becomes a
transpose of the twin, which dies when nobody reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from compiler.frontend.nodes import op_version
from compiler.ops.registry import find
from targets.kernels.dot import dot_of
from targets.kernels.tensor import product
from targets.target import Target

from .edit import EDGERT, Edit
from .integer_products import constant_weights, corrected, left_side
from .pads import resolve_pads

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
PER_AXIS = ("QuantizeLinear", "DequantizeLinear")  # with one scale they are element-wise in any layout
RESIZE = ("mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a")


def run(edit: Edit, target: Target) -> bool:
    """From the first node to the last."""
    sweep = _Sweep(edit, dot_of(target).signed_left)
    for node in list(edit.graph):
        sweep.visit(node)
    return bool(sweep.twins)


class _Sweep:
    def __init__(self, edit: Edit, signed: bool) -> None:
        self.edit, self.signed = edit, signed  # signed: int8 activations may stay so
        self.twins: dict[str, ir.Value] = {}  # NCHW value -> the same in NHWC
        self.rules: dict[str, Callable[[ir.Node], ir.Value | None]] = {
            "Conv": self.conv, "ConvTranspose": self.conv, "MaxPool": self.pool, "AveragePool": self.pool,
            "GlobalAveragePool": self.global_pool, "GlobalMaxPool": self.global_pool, "Concat": self.concat,
            "ConvInteger": self.conv_integer, "ReduceMean": self.reduce_mean, "Resize": self.resize,
            "Slice": self.slice,
        }  # fmt: skip

    def visit(self, node: ir.Node) -> None:
        if node.domain or not node.outputs or node.outputs[0].name not in self.edit.facts.values:
            return
        if all(v.name in self.edit.facts.constants for v in node.outputs if v.name):
            return
        shape = self.edit.shape(node.outputs[0])
        rule = self.rules.get(node.op_type)
        if rule is None and len(shape) == 4:
            definition = find(node.domain, node.op_type, op_version(node, self.edit.facts))
            if definition is not None and definition.kind == "elementwise" and len(node.outputs) == 1:
                rule = self.elementwise
        made = rule(node) if rule else None
        if made is None:
            return
        old = node.outputs[0]
        back = self.edit.insert(node, "Transpose", [made], {"perm": TO_NCHW}, stem=f"{old.name}.nchw")
        self.edit.replace(old, back)
        self.twins[str(back.name)] = made

    def twin(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """The NHWC form of an NCHW value, transposed here if nobody made it yet."""
        found = self.twins.get(str(value.name))
        if found is None:
            found = self.edit.insert(before, "Transpose", [value], {"perm": TO_NHWC}, stem=f"{value.name}.nhwc")
            self.twins[str(value.name)] = found
        return found

    def _any_twin(self, node: ir.Node) -> bool:
        return any(v is not None and str(v.name) in self.twins for v in node.inputs)

    # ---- operators ------------------------------------------------------------------------------------------------
    def conv(self, node: ir.Node) -> ir.Value | None:
        edit = self.edit
        x, w = node.inputs[0], node.inputs[1]
        if x is None or w is None or edit.dtype(x) != "float32" or not edit.is_weight(w):
            return None
        attrs = self._window(node, x, w)
        if attrs is None:
            return None
        made = edit.insert(node, _own(node), [self.twin(x, node), w], attrs, EDGERT, stem=str(node.outputs[0].name))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return made if bias is None else edit.insert(node, "Add", [made, bias], stem=str(node.outputs[0].name))

    def conv_integer(self, node: ir.Node) -> ir.Value | None:
        """Constant weights; the input's zero point may be known only at run time."""
        edit = self.edit
        x, w, zero, w_zero = (*node.inputs, None, None)[:4]
        if x is None or w is None or zero is not None and product(edit.shape(zero)) != 1:
            return None
        attrs, weights = self._window(node, x, w), constant_weights(edit, w, w_zero, 0)
        if attrs is None or weights is None:
            return None
        image, offset = left_side(edit, node, self.twin(x, node), zero, self.signed)
        kind = int(ir.DataType[edit.dtype(image).upper()])
        none = edit.constant("border", np.zeros((), edit.dtype(image)))
        border = none if offset is None else edit.insert(node, "Cast", [offset], {"to": kind})
        acc = edit.insert(node, "Conv2dInteger", [image, weights, border], attrs, EDGERT)
        sums = np.asarray(edit.const(weights)).astype(np.int32).sum(axis=(1, 2, 3), dtype=np.int32)
        return corrected(edit, node, acc, offset, sums)

    def _window(self, node: ir.Node, x: ir.Value, w: ir.Value) -> dict[str, Any] | None:
        """Strides, pads, dilations and groups of an image convolution; None for any other."""
        edit = self.edit
        if len(edit.shape(x)) != 4 or not all(isinstance(d, int) for d in edit.shape(x)[2:]):
            return None
        spatial, kernel = edit.shape(x)[2:], edit.shape(w)[2:]
        transposed = node.op_type == "ConvTranspose"
        if transposed and (edit.attr(node, "auto_pad", "NOTSET") != "NOTSET" or edit.attr(node, "output_shape")):
            return None
        strides, dilations = list(edit.attr(node, "strides", [1, 1])), list(edit.attr(node, "dilations", [1, 1]))
        pads = list(edit.attr(node, "pads", [0] * 4))
        if not transposed:
            pads = resolve_pads(
                edit.attr(node, "auto_pad", "NOTSET"), pads, [int(d) for d in spatial], [int(k) for k in kernel],
                strides, dilations,
            )  # fmt: skip
        attrs = {"strides": strides, "pads": pads, "dilations": dilations, "group": int(edit.attr(node, "group", 1))}
        if transposed:
            attrs["output_padding"] = list(edit.attr(node, "output_padding", [0, 0]))
        return attrs

    def pool(self, node: ir.Node) -> ir.Value | None:
        edit = self.edit
        x = node.inputs[0]
        used = [v for v in node.outputs if v.uses() or v.is_graph_output()]
        numbers = ("float32", "uint8", "int8") if node.op_type == "MaxPool" else ("float32",)
        if x is None or len(edit.shape(x)) != 4 or edit.dtype(x) not in numbers or used != [node.outputs[0]]:
            return None
        spatial = edit.shape(x)[2:]
        if not all(isinstance(d, int) for d in spatial):
            return None
        kernel = list(edit.attr(node, "kernel_shape"))
        strides, dilations = list(edit.attr(node, "strides", [1, 1])), list(edit.attr(node, "dilations", [1, 1]))
        pads = resolve_pads(
            edit.attr(node, "auto_pad", "NOTSET"), list(edit.attr(node, "pads", [])), [int(d) for d in spatial], kernel,
            strides, dilations,
        )  # fmt: skip
        attrs = {
            "kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations,
            "count_include_pad": int(edit.attr(node, "count_include_pad", 0)),
            "output_shape": [int(d) for d in edit.shape(node.outputs[0])[2:]],
        }  # fmt: skip
        return edit.insert(node, _own(node), [self.twin(x, node)], attrs, EDGERT, stem=str(node.outputs[0].name))

    def global_pool(self, node: ir.Node) -> ir.Value | None:
        x = node.inputs[0]
        if x is None or len(self.edit.shape(x)) != 4 or self.edit.dtype(x) != "float32":
            return None
        if node.op_type == "GlobalAveragePool":
            return self._mean(node, self.twin(x, node))
        axes = self.edit.constant("axes", np.array([1, 2], np.int64))
        return self.edit.insert(node, "ReduceMax", [self.twin(x, node), axes], {"keepdims": 1})

    def reduce_mean(self, node: ir.Node) -> ir.Value | None:
        edit = self.edit
        x = node.inputs[0]
        axes = edit.attr(node, "axes")
        if axes is None and len(node.inputs) > 1:
            given = edit.const(node.inputs[1])
            axes = None if given is None else given.tolist()
        if x is None or axes is None or len(edit.shape(x)) != 4 or sorted(a % 4 for a in axes) != [2, 3]:
            return None
        if str(x.name) not in self.twins:
            return None
        mean = self._mean(node, self.twin(x, node))
        if edit.attr(node, "keepdims", 1):
            return mean
        # [N, 1, 1, C] without the axes of 1 is what was asked for, and the bytes lie alike
        spatial = edit.constant("axes", np.array([1, 2], np.int64))
        edit.replace(node.outputs[0], edit.insert(node, "Squeeze", [mean, spatial]))
        return None

    def _mean(self, node: ir.Node, x: ir.Value) -> ir.Value:
        return self.edit.insert(node, "GlobalAveragePool2d", [x], {}, EDGERT, stem=str(node.outputs[0].name))

    def slice(self, node: ir.Node) -> ir.Value | None:
        """A cut at known axes, where its input has a twin."""
        x, axes = node.inputs[0], self.edit.const(node.inputs[3]) if len(node.inputs) > 3 else None
        if x is None or str(x.name) not in self.twins or axes is None or len(self.edit.shape(x)) != 4:
            return None
        places = np.array([TO_NHWC.index(int(a) % 4) for a in axes.reshape(-1)], np.int64)
        inputs = [self.twin(x, node), *node.inputs[1:3], self.edit.constant("axes", places), *node.inputs[4:]]
        return self.edit.insert(node, "Slice", inputs, {}, stem=str(node.outputs[0].name))

    def concat(self, node: ir.Node) -> ir.Value | None:
        edit = self.edit
        if len(edit.shape(node.outputs[0])) != 4 or not self._any_twin(node):
            return None
        axis = TO_NHWC.index(int(edit.attr(node, "axis")) % 4)
        return edit.insert(node, "Concat", [self.twin(v, node) for v in node.inputs if v is not None], {"axis": axis})

    def resize(self, node: ir.Node) -> ir.Value | None:
        edit = self.edit
        x = node.inputs[0]
        shapes = [edit.shape(v) for v in (x, node.outputs[0]) if v is not None]
        known = all(len(s) == 4 and all(isinstance(d, int) for d in s) for s in shapes)
        if x is None or str(x.name) not in self.twins or not known or shapes[0][:2] != shapes[1][:2]:
            return None
        attrs = {n: edit.attr(node, n) for n in RESIZE}
        if (
            attrs["mode"] not in (None, "nearest", "linear")
            or edit.attr(node, "antialias", 0)
            or edit.attr(node, "axes")
        ):
            return None
        if attrs["coordinate_transformation_mode"] in ("tf_crop_and_resize", "half_pixel_symmetric"):
            return None
        if edit.attr(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        kept = {n: v for n, v in attrs.items() if v is not None}
        place = 2
        if op_version(node, edit.facts) < 11:  # it had these coordinates only, and no roi before its scales
            kept |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            place = 1
        scales = edit.const(node.inputs[place]) if len(node.inputs) > place else None
        if scales is not None and scales.size == 4:
            kept["scales"] = [float(s) for s in scales[2:]]
        kept["output_shape"] = [int(d) for d in shapes[1][2:]]
        return edit.insert(node, "Resize2d", [self.twin(x, node)], kept, EDGERT, stem=str(node.outputs[0].name))

    def elementwise(self, node: ir.Node) -> ir.Value | None:
        """Any element-wise operator on values that have twins; per-channel constants move to the last axis."""
        edit = self.edit
        if not self._any_twin(node) or node.op_type in PER_AXIS and product(edit.shape(node.inputs[1])) != 1:  # type: ignore[arg-type]
            return None
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            if value is None:
                inputs.append(None)
                continue
            shape = edit.shape(value)
            if str(value.name) in self.twins:
                inputs.append(self.twin(value, node))
            elif all(isinstance(d, int) and d == 1 for d in shape):
                rank1 = len(shape) <= 1
                inputs.append(value if rank1 or value.name not in edit.facts.constants else self._reshaped(value, ()))
            elif len(shape) == 4 and value.name not in edit.facts.constants:
                inputs.append(self.twin(value, node))
            elif value.name in edit.facts.constants:
                full = (1,) * (4 - len(shape)) + tuple(int(d) for d in shape)
                inputs.append(self._reshaped(value, full))
            else:
                return None
        attrs = {name: attr.value for name, attr in node.attributes.items()}
        version = op_version(node, edit.facts)
        return edit.insert(node, node.op_type, inputs, attrs, stem=str(node.outputs[0].name), version=version)

    def _reshaped(self, value: ir.Value, full: tuple[int, ...]) -> ir.Value:
        data = np.asarray(self.edit.const(value)).reshape(full)
        return self.edit.constant(f"{value.name}.nhwc", data.transpose(TO_NHWC) if full else data)


def _own(node: ir.Node) -> str:
    return f"{node.op_type}2d"
