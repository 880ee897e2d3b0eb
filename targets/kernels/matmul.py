"""Batched product of two matrices known only at run time: [..., M, K] x [..., K, N]; any dimension may be symbolic.

The right side is read in place where its rows are contiguous and short, else packed into panels by a stage before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .gemm_tasks import known_rows, row_tiles, rows_a_task
from .matmul_dot import dot_products, takes
from .matmul_pack import packed
from .registry import Call, template
from .stage import Leaf, Stage
from .tails import unravel
from .tensor import Index, Tensor, product, simplify
from .tiles import TYPICAL_ROWS, Tile, choose_tile, chunks, near_best
from .tiles_emit import clear, reduce_into, store_some, store_tile

PACK_ROWS = 48  # rows of the left side from which on packing the right side pays


@template("edgert.MatMul")
def matmul(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] (transA: [..., K, M]) x B [..., K, N] (transB: [..., N, K]), float32; batches broadcast."""
    a, w = call.inputs[0], call.inputs[1]
    if a is None or w is None or {a.dtype, w.dtype} != {"float32"}:
        return None
    if min(a.ndim, w.ndim, call.outputs[0].ndim) < 2:
        return None
    if any(isinstance(size, int) and size == 0 for size in (*a.shape, *w.shape)):
        return None
    trans_a, trans_b = bool(call.attrs.get("transA", 0)), bool(call.attrs.get("transB", 0))
    if takes(a, call.outputs[0], trans_a, trans_b):
        where = partial(batch_place, shape=a.shape[:-2]), partial(batch_place, shape=w.shape[:-2])
        return [dot_products(call, a, w, *where, target)]
    return _Product(call, a, w, target).stages()


class _Product:
    """One call: sizes, tile, and the kernel under construction."""

    def __init__(self, call: Call, a: Tensor, w: Tensor, target: Target) -> None:
        self.call, self.a, self.w, self.target = call, a, w, target
        self.trans_a, self.trans_b = bool(call.attrs.get("transA", 0)), bool(call.attrs.get("transB", 0))
        *self.batch, self.rows, self.cols = call.outputs[0].shape
        self.depth: Index = a.shape[-2] if self.trans_a else a.shape[-1]
        rows, cols = known_rows(self.rows), known_rows(self.cols)
        depth = self.depth if isinstance(self.depth, int) else TYPICAL_ROWS
        lanes = target.lanes("float32")
        if "mr" in call.config:
            self.tile = Tile(call.config["mr"], call.config["nr"] // lanes, lanes)
        else:
            # a symbolic side gets a small tile, for it may be short
            most = rows if isinstance(self.rows, int) else 8, 8 if isinstance(self.cols, int) else 2
            self.tile = choose_tile(rows, cols, depth, target, max_rows=most[0], max_vecs=most[1])
        # columns of a transposed or symbolic right side cannot be loaded as whole vectors; a tall one thrashes L1
        self.pack = (
            self.trans_b
            or not isinstance(self.cols, int)
            or bool(call.config.get("pack", rows >= PACK_ROWS and depth * cols * 4 > 2 * target.l1_bytes))
        )
        panels = -(-cols // self.tile.cols)
        self.block = rows_a_task(rows, self.tile, depth, panels, target)
        self.panels = simplify((self.cols + (self.tile.cols - 1)) // self.tile.cols)

    def stages(self) -> list[Stage]:
        """The packing stage, where there is one, and the product."""
        if not self.pack:
            return [self.kernel(self.w)]
        stage, buffer = packed(self.w, self.trans_b, self.tile.cols, self.target)
        return [stage, self.kernel(buffer)]

    def kernel(self, right: Leaf) -> Stage:
        """The product; `right` is B itself or its panels."""
        tile = self.tile
        how = "packed" if self.pack else "kn"
        b = Builder(f"matmul_{how}_f32_{tile.rows}x{tile.cols}_{self.target.name.split('-')[-1]}")
        blocks = simplify((self.rows + (self.block - 1)) // self.block)
        with b:
            self.b, self.left, self.right, self.out = b, b.arg(self.a), b.arg(right), b.arg(self.call.result)
            with b.parallel(product([*self.batch, blocks, self.panels])) as p:
                *place, block, panel = unravel(b, p, [*self.batch, blocks, self.panels])
                at, self.place = b.let(block * self.block), tuple(place)
                self.place_a = batch_place(self.place, self.a.shape[:-2])
                place_w = batch_place(self.place, self.w.shape[:-2])
                self.place_w = (flat_place(b, place_w, self.w.shape[:-2]), panel) if self.pack else place_w
                first, whole = b.let(panel * tile.cols), simplify(self.cols // tile.cols)
                rest = simplify(self.cols - whole * tile.cols)
                if isinstance(self.cols, int) and 0 in (whole, rest):
                    self.panel(at, first, rest or tile.cols)
                else:
                    with b.when(panel < whole):
                        self.panel(at, first, tile.cols)
                    with b.otherwise():
                        self.panel(at, first, rest)
        return b.stage()

    def panel(self, at: tirx.Expr, first: tirx.Expr, width: Index) -> None:
        """The rows of a task for `width` columns from `first`."""
        tile = self.tile
        pieces: list[tuple[int, Tile, Index]] = [(0, tile, width)]
        if not self.pack and isinstance(width, int) and width < tile.cols:
            # no padding to run into: whole vectors, then narrower ones
            vecs = width // tile.lanes
            pieces = [(0, Tile(tile.rows, vecs, tile.lanes), vecs * tile.lanes)] if vecs else []
            rest = chunks(width % tile.lanes, tile.lanes)
            pieces += [(vecs * tile.lanes + o, Tile(tile.rows, 1, w), w) for o, w in rest]
        for offset, part, count in pieces:
            emit = partial(self.product, first=first + offset, tile=part, width=count)
            row_tiles(self.b, self.rows, at, self.block, tile.rows, emit)

    def product(self, rows: int, m: tirx.Expr, first: tirx.Expr, tile: Tile, width: Index) -> None:
        """One tile: `rows` rows from m, `width` columns from `first`."""
        b = self.b

        def left(i: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
            return self.left[(*self.place_a, k, m + i) if self.trans_a else (*self.place_a, m + i, k)]

        def right(k: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
            return self.right[(*self.place_w, k, c if self.pack else first + c)]

        def write(value: tirx.Expr, i: tirx.Expr, c: tirx.Expr) -> None:
            at = (*self.place, m + i, first + c)
            b.bind(self.call.outputs[0], lambda *_: value)
            b.share(at, self.call.result.shape)
            b.store(self.out, at, self.call.final(*at))

        acc = clear(b, rows, tile)
        reduce_into(b, acc, range(rows), tile, self.depth, left, right)
        if isinstance(width, int):
            store_tile(b, acc, rows, width, tile, write)
        else:
            store_some(b, acc, rows, width, tile, write)


def batch_place(place: Sequence[Index], shape: Sequence[Index]) -> tuple:
    """The output's batch indices for an operand with batch dimensions `shape`, aligned to the right."""
    own = place[len(place) - len(shape) :] if shape else ()
    return tuple(0 if size == 1 else index for index, size in zip(own, shape, strict=True))


def flat_place(b: Builder, place: Sequence[Index], shape: Sequence[Index]) -> tirx.Expr:
    """The row-major number of `place` in `shape`."""
    flat: Index = tirx.const(0, "int64")
    for index, size in zip(place, shape, strict=True):
        flat = flat * size + index
    return b.let(flat)


def space(call: Call, target: Target) -> list[dict[str, int]]:
    """Tile sizes worth measuring, with and without packing."""
    a = call.inputs[0]
    *_, rows, cols = call.outputs[0].shape
    if a is None:
        return []
    depth = a.shape[-2] if call.attrs.get("transA", 0) else a.shape[-1]
    tiles = near_best(known_rows(rows), known_rows(cols), known_rows(depth), target, count=5)
    return [{"mr": t.rows, "nr": t.cols, "pack": pack} for t in tiles for pack in (0, 1)]


matmul.space = space  # type: ignore[attr-defined]
