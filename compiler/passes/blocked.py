"""Products with constant weights of few bits become kernels that keep them packed; also lookups of 4-bit rows.

    MatMul | Gemm(x, DequantizeLinear(q, scale, zero))                  GemmBlocked
    MatMul | Gemm(x, Gather(table, index) * scale)                      GemmLookup (nf4, codebooks)
    MatMul(x', DequantizeLinear(4 bits in blocks)), x' rounded to int8  QuantizeRows, GemmInt4x8
    Gather(DequantizeLinear(4 bits in blocks), ids)                     GatherBlocked

x' is what quant/int4x8.py writes. MatMulNBits comes here as MatMul, its activations rounded where it asks for that
(accuracy_level 4). Weights of 8 bits with one scale, or one for each column, wait until the integer pass has taken its
own: `late`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from targets.target import Target

from .edit import EDGERT, Edit
from .few_bits import FewBits, few_bits, fits
from .known import fold_weights
from .rounded_rows import quantized_rows, rounded
from .spell_nbits import matmul_nbits

INT8_ARITHMETIC = 4  # MatMulNBits' accuracy_level from which activations may be rounded to int8


def run(edit: Edit, target: Target) -> bool:
    """Everything but 8-bit weights without blocks. Before other passes take the patterns apart."""
    changed = _nbits(edit)
    for node in edit.nodes("MatMul", "Gemm"):
        changed |= _product(edit, node, early=True)
    for node in edit.nodes("Gather"):
        changed |= _gather(edit, node)
    return changed


def late(edit: Edit, target: Target) -> bool:
    """After the integer pass: what is left, and at last whatever no kernel takes as constants in float32."""
    changed = False
    for node in [*edit.nodes("MatMul", "Gemm"), *edit.nodes("Gemm", domain=EDGERT)]:
        changed |= _product(edit, node, early=False)
    return fold_weights(edit, target) or changed


def _product(edit: Edit, node: ir.Node, early: bool) -> bool:
    a, b = node.inputs[0], node.inputs[1]
    if a is None or edit.dtype(a) != "float32" or len(edit.shape(a)) < 2 or edit.attr(node, "transA", 0):
        return False
    if float(edit.attr(node, "alpha", 1.0)) != 1.0:
        return False
    found = few_bits(edit, b)
    found = None if found is None else fits(edit, found, bool(edit.attr(node, "transB", 0)))
    if found is None or early and _waits(edit, found):
        return False
    made = _integers(edit, node, a, found) or edit.insert(
        node, found.op, [a, *found.inputs], _attrs(found), EDGERT, stem=str(node.outputs[0].name)
    )
    edit.replace(node.outputs[0], _with_c(edit, node, made))
    return True


def _waits(edit: Edit, found: FewBits) -> bool:
    q = found.inputs[0]
    assert q is not None
    return found.op == "GemmBlocked" and not found.block and edit.dtype(q) in ("int8", "uint8")


def _attrs(found: FewBits) -> dict[str, Any]:
    return {"transB": int(found.swapped), "block": found.block}


def _with_c(edit: Edit, node: ir.Node, made: ir.Value) -> ir.Value:
    """Gemm's third input added."""
    c = node.inputs[2] if node.op_type == "Gemm" and not node.domain and len(node.inputs) > 2 else None
    beta = float(edit.attr(node, "beta", 1.0))
    if c is None or beta == 0.0:
        return made
    if beta != 1.0:
        c = edit.insert(node, "Mul", [c, edit.constant("beta", np.array(beta, np.float32))])
    return edit.insert(node, "Add", [made, c], stem=str(node.outputs[0].name))


def _integers(edit: Edit, node: ir.Node, a: ir.Value, found: FewBits) -> ir.Value | None:
    """The product in int8 where `a` is rounded to it in the same blocks."""
    q = found.inputs[0]
    assert q is not None
    x = rounded(edit, a, found.block) if found.block else None
    if x is None or found.op != "GemmBlocked" or edit.dtype(q) not in ("int4", "uint4"):
        return None
    rows = quantized_rows(edit, node, x, found.block)
    stem = str(node.outputs[0].name)
    return edit.insert(node, "GemmInt4x8", [*rows, *found.inputs], _attrs(found), EDGERT, stem=stem)


def _nbits(edit: Edit) -> bool:
    """MatMulNBits spelled out, and its activations rounded where it asks for that."""
    changed = False
    for node in edit.nodes("MatMulNBits", domain="com.microsoft"):
        coarse = int(edit.attr(node, "accuracy_level", 0)) >= INT8_ARITHMETIC and int(edit.attr(node, "bits", 4)) == 4
        block, a = int(edit.attr(node, "block_size")), node.inputs[0]
        made = matmul_nbits(edit, node)
        if made is None:
            continue
        product = made.producer()
        if product is not None and product.op_type == "Add":
            product = product.inputs[0].producer() if product.inputs[0] is not None else None
        edit.replace(node.outputs[0], made)
        changed = True
        whole = a is not None and edit.dtype(a) == "float32" and int(edit.attr(node, "K")) % block == 0
        found = few_bits(edit, product.inputs[1]) if product is not None and coarse and whole else None
        if product is None or a is None or found is None or not found.block:
            continue
        rows = quantized_rows(edit, product, a, block)
        inputs = [*rows, *found.inputs]
        edit.replace(product.outputs[0], edit.insert(product, "GemmInt4x8", inputs, _attrs(found), EDGERT))
    return changed


def _gather(edit: Edit, node: ir.Node) -> bool:
    """Rows of a 4-bit table: unpacked when they are asked for."""
    table, ids = node.inputs[0], node.inputs[1]
    found = few_bits(edit, table)
    if found is None or ids is None or found.op != "GemmBlocked" or found.swapped or int(edit.attr(node, "axis", 0)):
        return False
    q, scale, zero = found.inputs
    assert q is not None and scale is not None and table is not None
    if not found.block or found.attrs["axis"] != 1 or edit.dtype(q) not in ("int4", "uint4"):
        return False
    rows, width = (int(d) for d in edit.shape(q))
    packed = edit.constant("packed", partial(_pairs, edit.facts.constants.tensor(str(q.name))),
                           ((rows, -(-width // 2)), np.dtype(np.uint8)))  # fmt: skip
    zeros = edit.const(zero)
    kind = np.int8 if edit.dtype(q) == "int4" else np.uint8
    points = None if zeros is None else edit.constant("zero", zeros.astype(kind))
    attrs = {"width": width, "block": found.block, "signed": int(edit.dtype(q) == "int4")}
    stem = str(node.outputs[0].name)
    edit.replace(
        node.outputs[0], edit.insert(node, "GatherBlocked", [packed, ids, scale, points], attrs, EDGERT, stem=stem)
    )
    return True


def _pairs(tensor: ir.TensorProtocol) -> np.ndarray:
    """[rows, width] of 4 bits, two in a byte."""
    data = tensor.numpy()
    kind = np.int8 if data.dtype == np.dtype(ml_dtypes.int4) else np.uint8
    codes = data.astype(kind).view(np.uint8) & 15
    codes = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return codes[:, ::2] | codes[:, 1::2] << 4
