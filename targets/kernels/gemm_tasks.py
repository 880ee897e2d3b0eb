"""How a matrix product is shared out: rows of a task, and the tiles that cover them."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .tensor import Index
from .tiles import TYPICAL_ROWS, Tile


def rows_a_task(rows: int, tile: Tile, depth: int, panels: int, target: Target) -> int:
    """Rows of one task: a multiple of the tile's, whose input stays in half of L2, shared evenly by 2 and 4 threads."""
    tiles = max(1, -(-rows // tile.rows))
    fit = max(1, target.l2_bytes // 2 // max(1, tile.rows * depth * 4))

    def cost(block: int) -> float:
        tasks = -(-tiles // block) * panels
        slowest = [-(-tasks // n) * block * n / (tiles * panels) for n in (2, 4)]
        return 4 * slowest[0] + slowest[1] + tasks * 1e-3

    return min(range(1, min(tiles, fit, 256) + 1), key=cost) * tile.rows


def known_rows(rows: Index) -> int:
    """The number of rows to choose tiles for."""
    return rows if isinstance(rows, int) else TYPICAL_ROWS


def row_tiles(
    b: Builder, rows: Index, at: tirx.Expr, block: int, step: int, emit: Callable[[int, tirx.Expr], None]
) -> None:
    """Calls `emit(count, first)` in loops over rows [at, min(at + block, rows)) in tiles of `step`, and the rest."""
    if isinstance(rows, int) and rows % block == 0:
        with b.serial(block // step, "tile") as t:
            emit(step, b.let(at + t * step))
        return
    count = b.let(tirx.min(tirx.const(block, "int64"), rows - at))
    whole = b.let(count // step)
    with b.serial(whole, "tile") as t:
        emit(step, b.let(at + t * step))
    if isinstance(rows, int):
        if rows % step:
            with b.when(whole * step < count):
                emit(rows % step, b.let(at + whole * step))
        return
    # a number of rows known only at run time: the remainder in tiles of powers of two
    size = 1 << max(0, (step - 1).bit_length() - 1)
    rest = b.let(count - whole * step)
    while size and step > 1:
        with b.when(rest % (2 * size) >= size):
            emit(size, b.let(at + whole * step + rest // (2 * size) * (2 * size)))
        size //= 2
