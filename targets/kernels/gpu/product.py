"""Matrix products: a work item computes a few rows of one vector of columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from ..loops import ceil_div
from ..matmul import batch_place
from ..registry import Call, template
from ..stage import Const, Leaf, Stage
from ..tensor import Index, Tensor, product
from .grid import Grid, place_of
from .tile import Tile, kept, packed, rows_of


@template("edgert.Gemm", "gpu")
def gemm(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] x constant B [K, N] (transB: [N, K]), float32; B is padded to whole vectors."""
    a, w = call.need(0), call.need(1)
    assert isinstance(target, Gpu)
    if w.data is None or {a.dtype, w.dtype} != {"float32"} or empty(a, w):
        return None
    swapped = bool(call.attrs.get("transB", 0))
    depth, cols = (int(s) for s in (w.shape[::-1] if swapped else w.shape))
    wide = -(-cols // target.vector) * target.vector

    def make() -> np.ndarray:
        data = np.asarray(w.data())  # type: ignore[misc]
        padded = np.zeros((depth, wide), np.float32)
        padded[:, :cols] = data.T if swapped else data
        return padded

    right = packed(target, (depth, wide), make, f"{w.name}.gpu.{wide}.{swapped}", w.name)
    return _stages(call, target, "gemm", (), call.outputs[0].shape[:-1], a, right, False, False)


@template("edgert.MatMul", "gpu")
def matmul(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] (transA: [..., K, M]) x B [..., K, N] (transB: [..., N, K]), float32; batches broadcast."""
    a, w = call.need(0), call.need(1)
    assert isinstance(target, Gpu)
    if {a.dtype, w.dtype} != {"float32"} or min(a.ndim, w.ndim, call.outputs[0].ndim) < 2 or empty(a, w):
        return None
    *batch, rows, _ = call.outputs[0].shape
    swapped = bool(call.attrs.get("transA", 0)), bool(call.attrs.get("transB", 0))
    return _stages(call, target, "matmul", batch, (rows,), a, w, *swapped)


def empty(*tensors: Tensor) -> bool:
    """Whether one of them has no elements."""
    return any(isinstance(size, int) and size == 0 for t in tensors for size in t.shape)


def _stages(
    call: Call, target: Gpu, name: str, batch: Sequence[Index], lead: Sequence[Index], a: Tensor, right: Leaf,
    swap_a: bool, swap_b: bool,
) -> list[Stage]:  # fmt: skip
    """batch: axes that both sides have (or broadcast); lead: those whose positions are the rows."""
    rows, cols, depth = product(lead), call.outputs[0].shape[-1], a.shape[-2] if swap_a else a.shape[-1]
    height, width = rows_of(rows, target), target.vector
    grid = [*batch, ceil_div(rows, height), ceil_div(cols, width)]
    whole = isinstance(cols, int) and cols % width == 0
    b = Grid(f"{name}_f32_{height}x{width}", target)
    with b:
        left, weights = b.arg(a), b.arg(right)
        with b.items(product(grid)) as item:
            *place, down, across = place_of(item, grid)
            first = b.let(across * width)
            tile = Tile(b, height, width)
            at, stored = kept(b, b.let(down * height), height, rows)
            padded = whole or isinstance(right, Const)
            columns = [first + c for c in range(width)] if padded else kept(b, first, width, cols)[0]
            heads = [place_of(row, lead) if len(lead) > 1 else [row] for row in at]
            place_w = batch_place(place, right.shape[:-2]) if batch else ()
            place_a = batch_place(place, a.shape[:-2]) if batch else ()
            with b.serial(depth, "k") as k:

                def column(c: Index) -> tirx.Expr:
                    n = columns[c] if isinstance(c, int) else first + c
                    return b.load(weights, *place_w, *((n, k) if swap_b else (k, n)))

                row = tile.vector(column, padded and not swap_b)
                for r, head in enumerate(heads):
                    at_a = (k, *head) if swap_a else (*head, k)
                    tile.add(r, b.let(b.load(left, *place_a, *at_a)), row)
            tile.finish(
                call, lambda r, c: (*place, *heads[r], first + c), stored, None if whole else lambda c: first + c < cols
            )
    return [b.stage()]
