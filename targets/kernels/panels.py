"""The walk of a matrix product over panels of one vector's columns: groups of panels times blocks of rows."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .gemm_tasks import known_rows, row_tiles
from .tails import unravel
from .tensor import Index, simplify

Emit = Callable[[int, tirx.Expr, tirx.Expr, int, int], None]  # rows, first row, first panel, panels, columns

TASK_BYTES = 64 << 10  # of weights, below which a thread is not worth waking


def walk(
    b: Builder, rows: Index, cols: int, depth: int, lanes: int, tile: tuple[int, int], single: int, panel_bytes: int,
    target: Target, emit: Emit,
) -> None:  # fmt: skip
    """Emits the parallel loop: tiles of `tile` = (rows, panels), or, of one row alone, `single` panels at once.

    panel_bytes: the weights of one panel. Each task meets its panels with as many rows as keep their input in L2.
    """
    group = max(tile[1], single) if _may_be_one(rows) else tile[1]
    panels = -(-cols // lanes)
    groups = -(-panels // group)
    fit = max(1, target.l2_bytes // 2 // max(1, 4 * depth * tile[0]))
    block = min(fit, -(-known_rows(rows) // tile[0])) * tile[0]
    blocks = simplify((rows + (block - 1)) // block)
    grain = max(1, TASK_BYTES // (panel_bytes * group)) if rows == 1 else 1
    with b.parallel(simplify(blocks * groups), grain) as p:
        at, part = unravel(b, p, [groups, blocks])
        first, panel = b.let(part * block), b.let(at * group)

        def some(count: int, width: int) -> None:
            """`count` panels of `width` columns in all."""

            def tiles() -> None:
                full = min(count, width // lanes) // tile[1]
                with b.serial(tirx.const(full, "int64"), "part") as part:
                    some_rows(b.let(panel + part * tile[1]), tile[1], tile[1] * lanes)
                left = count - full * tile[1]
                if left:
                    some_rows(panel + full * tile[1], left, width - full * tile[1] * lanes)

            def some_rows(at: tirx.Expr, vecs: int, wide: int) -> None:
                row_tiles(b, rows, first, block, tile[0], lambda n, m: emit(n, m, at, vecs, wide))

            if rows == 1:
                emit(1, tirx.const(0, "int64"), panel, count, width)
            elif not _may_be_one(rows):
                tiles()
            else:
                with b.when(tirx.EQ(rows, tirx.const(1, "int64"))):
                    emit(1, tirx.const(0, "int64"), panel, count, width)
                with b.otherwise():
                    tiles()

        last = panels - (groups - 1) * group
        last_cols = cols - (groups - 1) * group * lanes
        if last_cols == group * lanes or groups == 1:
            some(last, last_cols)
        else:
            with b.when(at < groups - 1):
                some(group, group * lanes)
            with b.otherwise():
                some(last, last_cols)


def _may_be_one(rows: Index) -> bool:
    return not isinstance(rows, int) or rows == 1
