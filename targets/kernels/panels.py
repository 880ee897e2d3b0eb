"""The walk of a matrix product over panels of one vector's columns: groups of panels times blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from .builder import Builder
from .gemm_tasks import known_rows, row_tiles
from .tails import unravel
from .tensor import Index, simplify

Emit = Callable[[int, tirx.Expr, tirx.Expr, int, int], None]  # rows, first row, first panel, panels, columns

TASK_BYTES = 64 << 10  # of weights, below which a thread is not worth waking


def walk(
    b: Builder, rows: Index, cols: int, row_bytes: int, lanes: int, tile: tuple[int, int], single: int,
    panel_bytes: int, target: Target, emit: Emit,
) -> None:  # fmt: skip
    """Emits the parallel loop: tiles of `tile` = (rows, panels), or, of one row alone, `single` panels at once.

    row_bytes: of the left side; each task meets its panels with as many rows as stay in L2. panel_bytes: the weights of
    one panel. `tile[1]` divides `single`.
    """
    maybe = not isinstance(rows, int)
    group = single if maybe or rows == 1 else tile[1]
    panels = -(-cols // lanes)
    groups = -(-panels // group)
    fit = max(1, target.l2_bytes // 2 // max(1, row_bytes * tile[0]))
    block = min(fit, -(-known_rows(rows) // tile[0])) * tile[0]
    blocks = simplify((rows + (block - 1)) // block)
    grain = max(1, TASK_BYTES // (panel_bytes * group)) if rows == 1 else 1

    def tiles(at: tirx.Expr, first: tirx.Expr) -> None:
        """A group's panels, with several rows."""

        def across(panel: tirx.Expr, vecs: int, width: int) -> None:
            row_tiles(b, rows, first, block, tile[0], lambda n, m: emit(n, m, panel, vecs, width))

        each, whole = group // tile[1], cols // (lanes * tile[1])
        here: Index = each
        if whole != groups * each:
            here = b.let(tirx.min(tirx.const(each, "int64"), whole - at * each))
        with b.serial(here, "part") as part:
            across(b.let(at * group + part * tile[1]), tile[1], tile[1] * lanes)
        if left := panels - whole * tile[1]:
            with b.when(tirx.EQ(at, tirx.const(groups - 1, "int64"))):
                across(tirx.const(whole * tile[1], "int64"), left, cols - whole * tile[1] * lanes)

    def one(at: tirx.Expr) -> None:
        """A group's panels, with one row."""
        row, panel = tirx.const(0, "int64"), b.let(at * group)
        last, width = panels - (groups - 1) * group, cols - (groups - 1) * group * lanes
        if groups == 1 or width == group * lanes:
            emit(1, row, panel, last, width)
            return
        with b.when(at < groups - 1):
            emit(1, row, panel, group, group * lanes)
        with b.otherwise():
            emit(1, row, panel, last, width)

    for leaf in b.constants():
        if len(leaf.shape) == 3 and leaf.shape[0] == panels:  # packed as the walk goes
            b.reading.span(leaf, groups, group * (math.prod(leaf.shape) // panels) * item_size(leaf.dtype))
    with b.parallel(simplify(blocks * groups), grain) as p:
        at, part = unravel(b, p, [groups, blocks])
        if not maybe:
            one(at) if rows == 1 else tiles(at, b.let(part * block))
            return
        with b.when(tirx.EQ(rows, tirx.const(1, "int64"))):
            one(at)
        with b.otherwise():
            tiles(at, b.let(part * block))
