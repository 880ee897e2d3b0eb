"""A register tile of int32 sums of byte products, and weights packed for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import QUAD, Dot, load_vector, store_vector
from .packing import pack_panels
from .stage import Const
from .tensor import Index, Tensor
from .tiles import Tile

Word = Callable[[int, Index, int], tirx.Expr]  # row of the tile, first element, how many: up to four bytes as int32


def pack_quads(matrix: np.ndarray, width: int) -> np.ndarray:
    """[depth, cols] -> [panels, ceil(depth/4), width * 4]: four neighbours of the reduction side by side."""
    depth, cols = matrix.shape
    quads = -(-depth // QUAD)
    full = np.zeros((quads * QUAD, cols), matrix.dtype)
    full[:depth] = matrix
    panels = pack_panels(full, width)  # [panels, depth, width]
    shaped = panels.reshape(-1, quads, QUAD, width).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(shaped.reshape(-1, quads, width * QUAD))


def quads_const(
    leaf: Tensor, matrix: Callable[[np.ndarray], np.ndarray], depth: int, cols: int, width: int, how: str
) -> Const:
    """The packed quads of a constant leaf. `matrix` gives its data as [depth, cols]; `how` names that."""
    data = leaf.data
    assert data is not None, f"{leaf.name} is not known at compile time"
    shape = (-(-cols // width), -(-depth // QUAD), width * QUAD)
    return Const(
        shape, "int8", lambda: pack_quads(matrix(np.asarray(data())), width), f"{leaf.name}:{how}:quads{width}",
        f"{leaf.name}_packed",
    )  # fmt: skip


def fitting(target: Target, dot: Dot, tile: Tile) -> Tile:
    """The tile with fewer rows where widened weights and left sides need registers of their own."""
    if dot.tile is not None:
        return Tile(*dot.tile, tile.lanes)
    if dot.registers == 1:
        return tile
    vecs = min(tile.vecs, 2)
    spare = target.registers - vecs * dot.registers - dot.registers - 1
    return Tile(max(1, min(tile.rows, spare // vecs)), vecs, tile.lanes)


def clear_sums(b: Builder, rows: int, tile: Tile) -> tirx.Var:
    """A local [rows, cols] of zero int32."""
    acc = b.local((rows, tile.cols), "int32")
    zero = tirx.Broadcast(tirx.const(0, "int32"), tile.lanes)
    for i in range(rows):
        for j in range(tile.vecs):
            store_vector(b, acc, zero, _at(i), _at(j * tile.lanes))
    return acc


def sum_quads(
    b: Builder, acc: tirx.Var, rows: Sequence[int], tile: Tile, dot: Dot, depth: int, left: Word, signed: bool,
    weights: Callable[[Index, int], tirx.Expr], unroll: int = 2, each: Callable[[tirx.Expr], None] | None = None,
) -> None:  # fmt: skip
    """acc[i, c] += the sum over `depth` bytes of left(i, k) * weights; weights(q, j): vector j of quad q."""

    def step(quad: Index, count: int) -> None:
        right = [[b.let(v) for v in dot.right(weights(quad, j))] for j in range(tile.vecs)]
        for i in rows:
            here = [b.let(v) for v in dot.left(left(i, quad * QUAD, count), signed)]
            for j in range(tile.vecs):
                at = _at(i), _at(j * tile.lanes)
                value = load_vector(acc, *at, count=tile.lanes)
                store_vector(b, acc, dot.add(value, tuple(here), tuple(right[j])), *at)

    whole, rest = divmod(depth, QUAD)
    turns, odd = divmod(whole, unroll)
    with b.serial(turns, "q") as q:
        if each:
            each(q)
        for u in range(unroll):
            step(q * unroll + u, QUAD)
    for u in range(odd):
        step(_at(turns * unroll + u), QUAD)
    if rest:
        step(_at(whole), rest)


def _at(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")
