"""Dense layers of bytes: a work item sums a few rows of one vector of columns in int32, four products at a time."""

from __future__ import annotations

from functools import partial

import numpy as np

from targets.gpu import Gpu
from targets.target import Target

from ..loops import ceil_div
from ..registry import Call, template
from ..stage import Stage
from ..tensor import product
from .grid import Grid, place_of
from .product import empty
from .tile import Tile, kept, rows_of
from .words import ByteSums, takes_bytes, word_const


@template("edgert.GemmInteger", "gpu")
def gemm_integer(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] bytes x B [K, N] (transB: [N, K]) constant int8, summed in int32, with the tail behind it."""
    a, w = call.need(0), call.need(1)
    assert isinstance(target, Gpu)
    if not takes_bytes(a, w, target) or empty(a, w):
        return None
    swapped = bool(call.attrs.get("transB", 0))
    depth, cols = (int(s) for s in (w.shape[::-1] if swapped else w.shape))
    *lead, _ = call.outputs[0].shape
    rows = product(lead)
    height, width = rows_of(rows, target), target.vector
    wide = -(-cols // width) * width

    def make() -> np.ndarray:
        data = np.asarray(w.data())  # type: ignore[misc]
        return np.pad(data.T if swapped else data, ((0, 0), (0, wide - cols)))

    right = word_const((depth, wide), make, f"{w.name}.gpu.words.{wide}.{swapped}", w.name)
    b = Grid(f"gemm_{a.dtype}_{height}x{width}", target)
    grid = [ceil_div(rows, height), wide // width]
    with b:
        left, weights = b.arg(a), b.arg(right)
        with b.items(product(grid)) as item:
            down, across = place_of(item, grid)
            first = b.let(across * width)
            tile = Tile(b, height, width, "int32")
            at, stored = kept(b, b.let(down * height), height, rows)
            heads = [place_of(row, lead) if len(lead) > 1 else [row] for row in at]
            ByteSums(b, tile, a.dtype, depth).add(
                [partial(b.load, left, *head) for head in heads],
                lambda quad: tile.vector(lambda c: b.load(weights, quad, first + c), True), [None] * height,
            )  # fmt: skip
            tile.finish(
                call, lambda r, c: (*heads[r], first + c), stored,
                None if cols == wide else lambda c: first + c < cols,
            )  # fmt: skip
    return [b.stage()]
