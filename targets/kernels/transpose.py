"""Copies that exchange the contiguous axis for another: squares turned in registers, both sides moved in vectors."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from targets.target import Target

from .access import Access
from .builder import Builder
from .lanes import load_vector, store_vector, turn
from .loops import Axes, ceil_div, span, tasks
from .tensor import Index, Tensor, as_expr, product

TYPES = ("float32", "int32", "uint32", "float64", "int64", "uint64")


def transpose_nest(b: Builder, access: Access, axes: Axes, out: Tensor, target: Target) -> bool:
    """Emits a copy whose source is contiguous along an axis that is not the output's last. False: not such a copy."""
    load = access.loads[0]
    strides = [load.strides[axes.last(g)] for g in range(len(axes.extents))]
    if load.base is None or load.leaf.dtype != out.dtype or out.dtype not in TYPES or len(strides) < 2:
        return False
    lanes = target.lanes(out.dtype)
    across = [g for g, stride in enumerate(strides[:-1]) if isinstance(stride, int) and stride == 1]
    if not across or isinstance(strides[-1], int) and strides[-1] in (0, 1):
        return False
    fast = across[-1]
    sides = [axes.extents[fast], axes.extents[-1]]
    if any(isinstance(side, int) and side < lanes for side in sides):
        return False
    _emit(b, load.leaf, out, axes.extents, strides, load.base, fast, lanes)
    return True


def _emit(
    b: Builder, source: Tensor, out: Tensor, extents: Sequence[Index], strides: list, base: Index, fast: int, lanes: int
) -> None:
    x, y = b.arg(source, [product(source.shape)]), b.arg(out, [product(out.shape)])
    steps = [product(extents[g + 1 :]) for g in range(len(extents))]  # of the output
    others = [g for g in range(len(extents) - 1) if g != fast]
    rows, columns = extents[fast], extents[-1]
    with tasks(b, [*(extents[g] for g in others), ceil_div(rows, lanes)], lanes * 64) as place:
        at = dict(zip(others, place[:-1], strict=True))
        i = b.let(as_expr(place[-1], "int64") * lanes, "i")

        def address(weights: Sequence[Index], start: Index, row: Index, column: Index) -> tirx.Expr:
            total = as_expr(start, "int64") + as_expr(row, "int64") * weights[fast]
            total = total + as_expr(column, "int64") * weights[-1]
            for g, index in at.items():
                total = total + as_expr(index, "int64") * weights[g]
            return total

        with b.serial(ceil_div(columns, lanes), "block") as block:
            j = b.let(as_expr(block, "int64") * lanes, "j")
            inside = tirx.And(i + lanes <= as_expr(rows, "int64"), j + lanes <= as_expr(columns, "int64"))
            with b.when(inside):
                square = [load_vector(x, [address(strides, base, i, j + c)], lanes) for c in range(lanes)]
                for r, column in enumerate(turn(b, square, lanes)):
                    store_vector(b, y, [address(steps, 0, i + r, j)], column, lanes)
            with b.otherwise():
                height = b.let(tirx.min(as_expr(lanes, "int64"), as_expr(rows, "int64") - i), "height")
                width = b.let(tirx.min(as_expr(lanes, "int64"), as_expr(columns, "int64") - j), "width")
                with b.serial(height, "r") as r:
                    span(
                        b, width, lanes,
                        lambda c: b.store(y, address(steps, 0, i + r, j + c), x[address(strides, base, i + r, j + c)]),
                    )  # fmt: skip
