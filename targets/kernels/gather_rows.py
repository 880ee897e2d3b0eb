"""Rows of a large constant table, one a task: so that a table that does not stay in memory is read row by row."""

from __future__ import annotations

import math

from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from .builder import Builder
from .loops import GRAIN
from .reading import Rows
from .registry import Call, template
from .stage import Stage
from .tails import MatrixTail
from .tensor import as_expr, product
from .tiles import chunks

TYPES = ("float32", "float16", "int8", "uint8")
BLOCK_BYTES = 8192  # of rows that are read together, at least: a device takes as long for less


@template("edgert.GatherRows")
def gather_rows(call: Call, target: Target) -> list[Stage] | None:
    """table [V, K], constant, and integer indices -> [..., K]; indices beyond the table are clamped."""
    table, indices = call.need(0), call.need(1)
    if table.data is None or table.dtype not in TYPES or 0 in table.shape:
        return None
    extent, depth = (int(size) for size in table.shape)
    lanes, size = target.lanes("float32"), depth * item_size(table.dtype)
    b = Builder(f"gather_rows_{table.dtype}_{target.isa}")
    numbers, rows = b.arg(indices, (product(indices.shape),)), b.arg(table)
    b.reading.rows = Rows(table, indices, extent, together := max(1, math.ceil(BLOCK_BYTES / size)), together * size)
    tail = MatrixTail(b, call)
    with b, b.parallel(product(indices.shape), max(1, GRAIN // depth)) as row:
        given = b.let(numbers[row].astype("int64"))
        at = b.let(tirx.Select(given < 0, given + extent, given))
        at = b.let(tirx.max(tirx.min(at, tirx.const(extent - 1, "int64")), tirx.const(0, "int64")))
        if depth >= lanes:
            with b.serial(depth // lanes, "block") as block, b.vector(lanes) as v:
                col = as_expr(block, "int32") * lanes + v
                tail.write(rows[at, col], row, col)
        for offset, width in chunks(depth % lanes, lanes):
            with b.vector(width) as v:
                col = v + (depth - depth % lanes + offset)
                tail.write(rows[at, col], row, col)
    return [b.stage(once=True)]
