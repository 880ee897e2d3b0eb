"""MatMulNBits as MatMul with a constant in blocks: DequantizeLinear of opset 21, axis 0 (the depth), block_size.

The weights are unpacked and transposed to [K, N]. Where all zero points are the middle of the range they become signed
numbers without zero points (uint4 8 -> int4 0), which is the cheaper form to compute with.
"""

from __future__ import annotations

from functools import partial

import ml_dtypes
import numpy as np
import onnx_ir as ir

from .edit import MODERN, Edit
from .spell import given

UNSIGNED = {2: np.dtype(ml_dtypes.uint2), 4: np.dtype(ml_dtypes.uint4), 8: np.dtype(np.uint8)}
SIGNED = {2: np.dtype(ml_dtypes.int2), 4: np.dtype(ml_dtypes.int4), 8: np.dtype(np.int8)}
OPSET = {2: 25, 4: MODERN, 8: MODERN}  # the first that has numbers of so many bits, or a later one


def unpacked(packed: np.ndarray, rows: int, count: int, bits: int) -> np.ndarray:
    """[rows, count] numbers in uint8 from `rows` runs of whole bytes, the first number of a byte in its lowest bits."""
    data = np.asarray(packed, np.uint8).reshape(rows, -1, 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (data >> shifts & np.uint8((1 << bits) - 1)).reshape(rows, -1)[:, :count]


def matmul_nbits(edit: Edit, node: ir.Node) -> ir.Value | None:
    """Constant weights, whole zero points. The attribute accuracy_level allows coarser arithmetic: not used."""
    a, b, scales, zeros, bias = (given(node, i) for i in (0, 1, 2, 3, 5))
    bits, size = int(edit.attr(node, "bits", 4)), int(edit.attr(node, "block_size"))
    k, n = int(edit.attr(node, "K")), int(edit.attr(node, "N"))
    scale, zero = edit.const(scales), edit.const(zeros)
    if a is None or b is None or b.name not in edit.facts.constants or scale is None or bits not in OPSET:
        return None
    if given(node, 4) is not None or edit.attr(node, "weight_prepacked", 0):
        return None
    if zeros is not None and (zero is None or zero.dtype != np.uint8):
        return None
    count, middle = -(-k // size), 1 << (bits - 1)
    points = None if zero is None else unpacked(zero, n, count, bits).T
    signed = points is None or bool((points == middle).all())
    dtype = (SIGNED if signed else UNSIGNED)[bits]
    tensor = edit.facts.constants.tensor(str(b.name))
    make = partial(_weights, tensor, k, n, bits, middle if signed else 0, dtype)
    inputs = [
        edit.constant("weight", make, ((k, n), dtype)),
        edit.constant("scale", np.ascontiguousarray(scale.reshape(n, count).T)),
    ]
    if not signed and points is not None:
        inputs.append(edit.constant("zero", points.astype(dtype)))
    attrs = {"axis": 0, "block_size": size}
    real = edit.insert(node, "DequantizeLinear", inputs, attrs, version=OPSET[bits])
    out = edit.insert(node, "MatMul", [a, real])
    return out if bias is None else edit.insert(node, "Add", [out, bias])


def _weights(tensor: ir.TensorProtocol, k: int, n: int, bits: int, middle: int, dtype: np.dtype) -> np.ndarray:
    data = unpacked(tensor.numpy(), n, k, bits).T.astype(np.int16) - middle
    return np.ascontiguousarray(data).astype(dtype)
