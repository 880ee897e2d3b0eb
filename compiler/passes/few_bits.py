"""Constant matrices of few bits as models spell them: DequantizeLinear, or a Gather from tables of 16 numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
import onnx_ir as ir

from .edit import Edit
from .known import evaluation, is_known

STEP = 8  # blocks of kernels are multiples of it
UINT4 = np.dtype(ml_dtypes.uint4)


@dataclass
class FewBits:
    """What `op` (GemmBlocked or GemmLookup) takes after its left side: a matrix [K, N], `swapped` [N, K]."""

    op: str
    inputs: list[ir.Value | None]
    block: int = 0
    swapped: bool = False
    attrs: dict[str, int] = field(default_factory=dict)


def few_bits(edit: Edit, value: ir.Value | None) -> FewBits | None:
    """The matrix that `value` stands for; None where it is none of few bits, or in a form that no kernel takes."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.domain or len(edit.shape(value)) != 2 or edit.dtype(value) != "float32":
        return None
    if node.op_type == "Transpose":
        found = few_bits(edit, node.inputs[0])
        return None if found is None else replace(found, swapped=not found.swapped)
    if node.op_type == "DequantizeLinear":
        return _dequantized(edit, node)
    return _looked_up(edit, node, value) if is_known(edit, value) else None


def fits(edit: Edit, found: FewBits, swapped: bool) -> FewBits | None:
    """The matrix as a product reads it, which takes it transposed if `swapped`; None where blocks lie along N."""
    found = replace(found, swapped=found.swapped != swapped)
    if found.op == "GemmBlocked":
        node_axis = found.attrs.get("axis", 0)
        depth_axis = 1 if found.swapped else 0
        if found.block and node_axis != depth_axis:
            return None
        scale = found.inputs[1]
        assert scale is not None
        if not found.block and len(edit.shape(scale)) == 1 and edit.shape(scale)[0] != 1 and node_axis == depth_axis:
            return None
    elif found.swapped:  # tables are spelled for [K, N]
        return None
    return found


def _dequantized(edit: Edit, node: ir.Node) -> FewBits | None:
    q, scale, zero = (*node.inputs, None)[:3]
    known = all(v is None or v.name in edit.facts.constants for v in (q, scale, zero))
    if q is None or scale is None or not known:
        return None
    if edit.dtype(q) not in ("int4", "uint4", "int8", "uint8") or edit.dtype(scale) not in ("float32", "float16"):
        return None
    block = int(edit.attr(node, "block_size", 0))
    axis = int(edit.attr(node, "axis", 1)) % 2
    if len(edit.shape(scale)) > (2 if block else 1) or block % STEP:
        return None
    return FewBits("GemmBlocked", [q, scale, zero], block, attrs={"axis": axis})


def _looked_up(edit: Edit, node: ir.Node, value: ir.Value) -> FewBits | None:
    """values * scales, perhaps reshaped: see quant/nf4.py and quant/codebook.py."""
    k, n = (int(d) for d in edit.shape(value))
    inner = node.inputs[0] if node.op_type == "Reshape" else value
    times = inner.producer() if inner is not None else None
    if times is None or times.domain or times.op_type != "Mul":
        return None
    for values, scale in (times.inputs, times.inputs[::-1]):
        assert values is not None and scale is not None
        shape, wide = edit.shape(values), edit.shape(scale)
        block = 0
        if len(shape) == 3 and shape[2] == n and tuple(wide) == (shape[0], 1, n) and int(shape[1]) % STEP == 0:
            block = int(shape[1])
        elif not (tuple(shape) == (k, n) and tuple(wide) in ((n,), (1, n))):
            continue
        table = _table(edit, values)
        if table is None:
            continue
        levels, index, book = table
        scales = evaluation(edit, scale)
        by = (k // block, n) if block else (n,)
        inputs = [
            edit.constant("index", _shaped(index, (k, n), UINT4), ((k, n), UINT4)),
            edit.constant("levels", levels),
            edit.constant("scale", _shaped(scales, by, np.dtype(np.float32)), (by, np.dtype(np.float32))),
        ]
        if book is not None:
            inputs.append(edit.constant("book", book))
        return FewBits("GemmLookup", list(inputs), block)
    return None


def _shaped(make: Callable[[], np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(np.asarray(make()).reshape(shape)).astype(dtype)


def _table(edit: Edit, values: ir.Value) -> tuple[np.ndarray, Callable[[], np.ndarray], np.ndarray | None] | None:
    """The levels, what gives the indices into them, and (levels [tables, 16]) the number of each column's table."""
    node = values.producer()
    if node is None or node.op_type != "Gather" or node.domain:
        data = edit.const(values)  # the front end computed it
        return None if data is None else _recovered(data)
    table, index = edit.const(node.inputs[0]), node.inputs[1]
    if table is None or table.ndim != 1 or table.dtype != np.float32 or index is None or len(table) % 16:
        return None
    index, book = _book(edit, index)
    if len(table) > 16 and book is None:
        return None
    bits = _narrow(edit, index)
    if bits is None or not is_known(edit, index):
        return None
    make = evaluation(edit, bits)
    return (table, make, None) if book is None else (table.reshape(-1, 16), make, book)


def _book(edit: Edit, index: ir.Value) -> tuple[ir.Value, np.ndarray | None]:
    """The index without a constant offset [N] of whole tables, and the tables' numbers."""
    node = index.producer()
    if node is None or node.op_type != "Add" or node.domain:
        return index, None
    for inner, offset in (node.inputs, node.inputs[::-1]):
        found = edit.const(offset)
        if inner is not None and found is not None and found.ndim == 1 and not (found % 16).any():
            return inner, (found // 16).astype(np.int32)
    return index, None


def _narrow(edit: Edit, index: ir.Value) -> ir.Value | None:
    """The 4-bit numbers that an index is cast from: only these are surely below 16."""
    node = index.producer()
    if node is None or node.op_type != "Cast" or node.inputs[0] is None:
        return None
    return node.inputs[0] if edit.dtype(node.inputs[0]) == "uint4" else None


def _recovered(data: np.ndarray) -> tuple[np.ndarray, Callable[[], np.ndarray], np.ndarray | None] | None:
    """Levels and indices of an array with at most 16 different numbers."""
    if data.dtype != np.float32:
        return None
    levels, index = np.unique(data, return_inverse=True)
    if len(levels) > 16:
        return None
    return np.pad(levels, (0, 16 - len(levels))), lambda: index.reshape(data.shape), None
