"""Both sides of a product in the order in which micro.py reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from tvm import tirx

from ..builder import Builder
from ..dot import QUAD, bytes_as_word, store_vector
from ..packing import pack_panels
from ..stage import Const
from ..storage import as_halves
from ..tensor import Index, as_expr
from .micro import ROWS, Micro

Read = Callable[[int, Index, int], tirx.Expr]  # row of the tile, first element, count: a vector, or one element


def pack_weights(matrix: np.ndarray, way: Micro, runs: int) -> np.ndarray:
    """[runs * depth, cols] -> [panels, steps, width * way.depth]: of each column, a step's elements lie side by side.

    Steps do not reach from one run into the next.
    """
    depth, cols = matrix.shape[0] // runs, matrix.shape[1]
    steps = way.steps(depth)
    full = np.zeros((runs, steps * way.depth, cols), way.weights)
    full[:, :depth] = (as_halves(matrix) if way.weights == "float16" else matrix).reshape(runs, depth, cols)
    panels = pack_panels(full.reshape(-1, cols), way.width).reshape(-1, runs * steps, way.depth, way.width)
    return np.ascontiguousarray(panels.transpose(0, 1, 3, 2)).reshape(-1, runs * steps, way.width * way.depth)


def weights_const(
    name: str, matrix: Callable[[], np.ndarray], depth: int, cols: int, way: Micro, key: str, runs: int = 1
) -> Const:
    """The packed weights. matrix: gives them as [runs * depth, cols]; key: names them, equal keys for equal bytes."""
    shape = (-(-cols // way.width), runs * way.steps(depth), way.width * way.depth)
    kind = f"{key}:{way.weights}:{runs}runs:steps{way.depth}x{way.width}"
    return Const(shape, way.weights, lambda: pack_weights(matrix(), way, runs), kind, f"{name}_packed")


def moved_const(name: str, matrix: Callable[[], np.ndarray], cols: int, key: str) -> Const:
    """What sums of a left side that is taken 128 smaller lack: 128 times the sum of each column's weights, int32."""
    room = -(-cols // 4) * 4

    def make() -> np.ndarray:
        return np.pad(128 * matrix().astype(np.int32).sum(0, dtype=np.int32), (0, room - cols))

    return Const((room,), "int32", make, f"{key}:moved", f"{name}_moved")


def pack_rows(
    b: Builder,
    packed: tirx.Var,
    base: Index,
    way: Micro,
    rows: int,
    start: tirx.Expr,
    count: Index,
    depth: int,
    read: Read,
) -> None:
    """packed[(base + step) * 8 + row] = the unit of `rows` rows at steps from `start`, `count` of them (the last one's
    elements end at `depth`; behind it are zeros)."""
    side = way.together
    whole = b.let(tirx.truncdiv(tirx.min(as_expr(count * way.depth, "int64"), depth - start * way.depth),
                                _int(side * way.depth)))  # fmt: skip
    with b.serial(whole, "k") as k:
        first = b.let(as_expr(k, "int64") * side)
        for group in range(0, rows, side):
            units = [_units(b, read, way, min(group + i, rows - 1), (start + first) * way.depth) for i in range(side)]
            for i, turned in enumerate(_turned(b, units)):
                store_vector(b, packed, turned, ((base + first + i) * ROWS + group) * way.parts)
    # fewer steps than are loaded at once are left at the depth's end only
    each = way.depth // way.parts
    for u in range(way.steps(depth % (side * way.depth))):
        at = b.let(whole * side + u)
        with b.when(at < count):
            known = depth % (side * way.depth) - u * way.depth
            for i in range(rows):
                for part in range(way.parts):
                    unit = _unit(read, way, i, (start + at) * way.depth + part * each, min(each, known - part * each))
                    b.store(packed, ((base + at) * ROWS + i) * way.parts + part, unit)


def _units(b: Builder, read: Read, way: Micro, row: int, k: tirx.Expr) -> tirx.Expr:
    """So many units of a row as are packed at once, in one vector."""
    loaded = read(row, k, way.together * way.depth)
    if way.depth == 1:
        return b.let(loaded.astype(f"{way.unit}x{way.together}"))
    if way.moved:
        loaded = loaded ^ tirx.Broadcast(tirx.const(128, "uint8"), way.together * way.depth)
    return b.let(tirx.reinterpret(f"{way.unit}x{way.together * way.parts}", loaded))


def _unit(read: Read, way: Micro, row: int, k: tirx.Expr, known: int) -> tirx.Expr:
    """One element of a unit, of which `known` elements of the row are there; the others meet weights of 0."""
    if way.depth == 1:
        return read(row, k, 1).astype(way.unit)
    starts = range(0, known, QUAD)
    words = [_word(read, way, row, k + at, min(QUAD, known - at)) for at in starts]
    if not words:
        return tirx.const(0, way.unit)
    if way.unit == "int32":
        return words[0]
    low, *high = (tirx.reinterpret("uint32", word).astype("uint64") for word in words)
    for word in high:
        low = low | tirx.shift_left(word, tirx.const(32, "uint64"))
    return tirx.reinterpret("int64", low)


def _word(read: Read, way: Micro, row: int, k: tirx.Expr, known: int) -> tirx.Expr:
    if known == QUAD:
        word = tirx.reinterpret("int32", read(row, k, QUAD))
    else:
        word = bytes_as_word(partial(_byte, read, row, k), known)
    return word ^ tirx.const(-0x7F7F7F80, "int32") if way.moved else word


def _byte(read: Read, row: int, k: tirx.Expr, i: int) -> tirx.Expr:
    return read(row, k + i, 1)


def _turned(b: Builder, rows: list[tirx.Expr]) -> list[tirx.Expr]:
    """A square of vectors, rows for columns: 2 x 2 or 4 x 4."""
    if len(rows) == 1:
        return rows
    if len(rows) == 2:
        return _zipped(b, rows, [[0, 2], [1, 3]])
    pairs = [_zipped(b, rows[i : i + 2], [[0, 4, 2, 6], [1, 5, 3, 7]]) for i in (0, 2)]
    columns = [_zipped(b, [pairs[0][i], pairs[1][i]], [[0, 1, 4, 5], [2, 3, 6, 7]]) for i in (0, 1)]
    return [columns[i][half] for half in (0, 1) for i in (0, 1)]


def _zipped(b: Builder, two: list[tirx.Expr], orders: list[list[int]]) -> list[tirx.Expr]:
    return [b.let(tirx.Shuffle(two, [tirx.const(i, "int32") for i in order])) for order in orders]


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
