"""Dense layers: [M, K] x constant [K, N], packed at compile time. M may be symbolic. A 1x1 convolution is one of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .packing import panel_const
from .registry import Call, template
from .stage import Const, Stage
from .tails import MatrixTail
from .tensor import Index, Tensor, product, simplify
from .tiles import TYPICAL_ROWS, Tile, choose_tile, near_best
from .tiles_emit import clear, reduce_into, store_tile



def rows_a_task(rows: int, tile: Tile, depth: int, panels: int, target: Target) -> int:
    """Rows of one task: a multiple of the tile's rows whose input stays in half of L2, with even shares for 2 and 4 threads."""
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


def pick(call: Call, rows: int, cols: int, depth: int, target: Target) -> Tile:
    """The tile of the tuning records, else the cost model's. A symbolic number of rows wants a power of two for its tails."""
    if "mr" in call.config:
        return Tile(call.config["mr"], call.config["nr"] // target.lanes("float32"), target.lanes("float32"))
    return choose_tile(rows, cols, depth, target)


def matrix_product(
    call: Call, target: Target, kernel: str, rows: Index, left: Tensor, weights: Callable[[int], Const],
    depth: int, cols: int,
) -> list[Stage]:  # fmt: skip
    """The stage of `left` seen as [rows, depth] times packed weights. `weights(nr)` packs them in panels of nr columns."""
    tile = pick(call, known_rows(rows), cols, depth, target)
    panels = -(-cols // tile.cols)
    last_cols = cols - (panels - 1) * tile.cols
    block = call.config.get("mc") or rows_a_task(known_rows(rows), tile, depth, panels, target)
    blocks = simplify((rows + (block - 1)) // block)
    b = Builder(f"{kernel}_f32_{tile.rows}x{tile.cols}_{target.name.split('-')[-1]}")
    with b:
        a = b.arg(left, (rows, depth))
        w = b.arg(weights(tile.cols))
        tail = MatrixTail(b, call)

        def emit(count: int, first: tirx.Expr, panel: tirx.Expr, width: int) -> None:
            acc = clear(b, count, tile)
            reduce_into(b, acc, range(count), tile, depth, lambda i, k: a[first + i, k], lambda k, c: w[panel, k, c])
            store_tile(b, acc, count, width, tile, lambda v, i, c: tail.write(v, first + i, panel * tile.cols + c))

        with b.parallel(simplify(blocks * panels)) as p:
            at = b.let(p // panels * block)
            panel = b.let(p % panels)

            def panel_body(width: int) -> None:
                row_tiles(b, rows, at, block, tile.rows, lambda count, first: emit(count, first, panel, width))

            if last_cols == tile.cols or panels == 1:
                panel_body(last_cols)
            else:
                with b.when(panel < panels - 1):
                    panel_body(tile.cols)
                with b.otherwise():
                    panel_body(last_cols)
    return [b.stage()]


def row_tiles(
    b: Builder, rows: Index, at: tirx.Expr, block: int, step: int, emit: Callable[[int, tirx.Expr], None]
) -> None:
    """Calls `emit(count, first)` in loops that cover rows [at, min(at + block, rows)) in tiles of `step` and a remainder."""
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


@template("edgert.Gemm")
def gemm(call: Call, target: Target) -> list[Stage] | None:
    """A [M, K] x B [K, N] (transB: [N, K]) constant, float32."""
    a, w = call.inputs[0], call.inputs[1]
    if a is None or w is None or w.data is None or a.dtype != "float32" or w.dtype != "float32":
        return None
    swapped = bool(call.attrs.get("transB", 0))
    depth, cols = (int(s) for s in (w.shape[::-1] if swapped else w.shape))
    rows = product(a.shape[:-1])

    def matrix(data: np.ndarray) -> np.ndarray:
        return data.T if swapped else data

    return matrix_product(
        call, target, "gemm", rows, a,
        lambda nr: panel_const(w, matrix, depth, cols, nr, "transposed" if swapped else "plain"), depth, cols,
    )  # fmt: skip


def space(call: Call, target: Target) -> list[dict[str, int]]:
    """Tile sizes worth measuring for a matrix product."""
    a, w = call.inputs[0], call.inputs[1]
    if a is None or w is None:
        return []
    depth, cols = (int(s) for s in (w.shape[::-1] if call.attrs.get("transB", 0) else w.shape))
    tiles = near_best(known_rows(product(a.shape[:-1])), cols, depth, target)
    return [{"mr": t.rows, "nr": t.cols} for t in tiles]


gemm.space = space  # type: ignore[attr-defined]
