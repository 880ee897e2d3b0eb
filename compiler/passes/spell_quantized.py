"""Quantized operators spelled out: dequantize, the float operator, quantize, as ONNX's QDQ models have it.

QLinearConv, QLinearMatMul and ONNX Runtime's QLinear operators, QGemm, MatMulNBits (domain com.microsoft) become
DequantizeLinear -> float operator -> QuantizeLinear of opset 21, so that one later pass makes integer kernels of all
forms. MatMulIntegerToFloat and DynamicQuantizeMatMul become MatMulInteger with the scale behind it. What has no such
form (scales that are computed, channels last) stays: its own definition runs it. At last ConvInteger and MatMulInteger
with weights too wide for int8 are split (wide_weights).
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from targets.target import Target

from . import wide_qlinear
from .edit import Edit
from .spell import MS, concat, conv, elementwise, pool, real, softmax, whole
from .spell_lstm import lstm
from .spell_matmul import dynamic_matmul, matmul, matmul_integer_to_float, qgemm
from .spell_nbits import matmul_nbits
from .wide_weights import conv_integer, matmul_integer

Spell = Callable[[Edit, ir.Node], ir.Value | list[ir.Value] | None]


def first(*ways: Spell) -> Spell:
    """The first of several that takes the node."""
    return lambda edit, node: next((made for way in ways if (made := way(edit, node)) is not None), None)


# each gives what takes the place of the node's output (or outputs), None where the node stays
SPELLED: dict[tuple[str, str], Spell] = {
    ("", "QLinearConv"): first(wide_qlinear.qlinear_conv, conv),
    (MS, "QLinearConv"): first(wide_qlinear.qlinear_conv, conv),
    ("", "QLinearMatMul"): first(wide_qlinear.qlinear_matmul, matmul),
    (MS, "QLinearAdd"): elementwise("Add", 2),
    (MS, "QLinearMul"): elementwise("Mul", 2),
    (MS, "QLinearSigmoid"): elementwise("Sigmoid", 1),
    (MS, "QLinearLeakyRelu"): elementwise("LeakyRelu", 1),
    (MS, "QLinearSoftmax"): softmax,
    (MS, "QLinearGlobalAveragePool"): pool("GlobalAveragePool"),
    (MS, "QLinearAveragePool"): pool("AveragePool"),
    (MS, "QLinearConcat"): concat,
    (MS, "QuantizeLinear"): whole,
    (MS, "DequantizeLinear"): real,
    (MS, "QGemm"): first(wide_qlinear.qgemm, qgemm),
    (MS, "MatMulIntegerToFloat"): matmul_integer_to_float,
    (MS, "DynamicQuantizeMatMul"): dynamic_matmul,
    (MS, "DynamicQuantizeLSTM"): lstm,
    (MS, "MatMulNBits"): matmul_nbits,
}
SPLIT: dict[tuple[str, str], Spell] = {
    ("", "ConvInteger"): conv_integer,
    ("", "MatMulInteger"): matmul_integer,
}


def run(edit: Edit, target: Target) -> bool:
    """Every node of SPELLED that has such a form, then every one of SPLIT, those just made too."""
    changed = False
    for table in (SPELLED, SPLIT):
        for node in edit.nodes():
            spell = table.get((node.domain, node.op_type))
            new = spell(edit, node) if spell is not None else None
            if new is None:
                continue
            for old, value in zip(node.outputs, new if isinstance(new, list) else [new], strict=False):
                edit.replace(old, value)
            changed = True
    return changed
