"""Batched product of two matrices of bytes known only at run time, summed exactly in int32.

The right side is packed by a stage before, as constant weights are at compile time; zero points are taken off with the
sums of its columns (by that stage) and of the left side's rows (by a vector of ones in every tile).
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from targets.target import Target

from .attention_operands import FLIPS, ONES, word_at, woven
from .builder import Builder
from .dot import QUAD, dot_of, load_vector, store_vector
from .gemm_tasks import known_rows, row_tiles
from .matmul import batch_place, flat_place
from .registry import Call, template
from .stage import Stage, Temp
from .tails import unravel
from .tensor import Index, Tensor, as_expr, product, simplify
from .tiles import Tile
from .tiles_emit import store_some, store_tile

FLIP = 128  # between uint8 and int8
WIDE = 2  # vectors of a tile
ROWS = 64  # of a task, about


@template("edgert.MatMulInteger")
def matmul_integer(call: Call, target: Target) -> list[Stage] | None:
    """(A - a_zero) [..., M, K] x (B - b_zero) [..., K, N] (transB: [..., N, K]) of bytes; batches broadcast.

    Every dimension may be symbolic.
    """
    a, w = call.need(0), call.need(1)
    if call.attrs.get("transA", 0) or min(a.ndim, w.ndim) < 2 or not takes(a.dtype, target):
        return None
    if any(isinstance(size, int) and size == 0 for size in (*a.shape, *w.shape)):
        return None
    made = _Product(call, a, w, target)
    return [made.packing(), made.kernel()]


def takes(dtype: str, target: Target) -> bool:
    """Whether the left side may be of this type."""
    return dtype == "uint8" or dtype == "int8" and dot_of(target).signed_left


class _Product:
    def __init__(self, call: Call, a: Tensor, w: Tensor, target: Target) -> None:
        self.call, self.a, self.w, self.target, self.dot = call, a, w, target, dot_of(target)
        self.swapped = bool(call.attrs.get("transB", 0))
        *self.batch, self.rows, self.cols = call.outputs[0].shape
        self.depth: Index = a.shape[-1]
        self.lanes = target.lanes("int32")
        self.a_zero = int(call.attrs.get("a_zero", 0))
        # what is left of B's zero point once it is int8
        self.rest = int(call.attrs.get("b_zero", 0)) - FLIP * (w.dtype == "uint8")
        spare = target.registers - (WIDE + 2) * self.dot.registers - 1
        vectors = WIDE + (self.rest != 0)
        tall = max(1, min(8, spare // vectors, known_rows(self.rows)))
        self.tile = Tile(tall, WIDE, self.lanes)
        self.block = tall * max(1, ROWS // tall)
        self.panels = simplify((self.cols + (self.tile.cols - 1)) // self.tile.cols)
        self.quads = simplify((self.depth + (QUAD - 1)) // QUAD)
        batch = product(w.shape[:-2])
        self.packed = Temp((batch, self.panels, self.quads, self.tile.cols), "int32", "packed")
        self.offsets = Temp((batch, self.panels, self.tile.cols), "int32", "offsets")

    # ---- the right side ---------------------------------------------------------------------------------------------
    def packing(self) -> Stage:
        """packed[batch, panel, quad, column] = four bytes of a column; offsets: what a_zero takes off it."""
        b = Builder(f"pack_{'nk' if self.swapped else 'kn'}_{self.w.dtype}_quads{self.tile.cols}_{self.target.isa}")
        lanes = self.lanes
        with b:
            self.b, self.source = b, b.arg(self.w)
            packed, offsets = b.arg(self.packed), b.arg(self.offsets)
            extents = [product(self.w.shape[:-2]), self.panels, WIDE]
            with b.parallel(product(extents), 4) as task:
                at, panel, half = unravel(b, task, extents)
                self.place = tuple(unravel(b, at, self.w.shape[:-2]))
                column, first = b.let(half * lanes), b.let(panel * self.tile.cols + half * lanes)
                with b.serial(self.quads, "quad") as quad:
                    self._pack(packed, (at, panel, as_expr(quad, "int64"), column), first)
                total = b.local((1, lanes), "int32")
                one = b.local((1,), "int32")  # loaded: TVM would fold shifts of a constant, and overflow
                b.store(one, 0, tirx.const(ONES, "int32"))
                start = tirx.const(0, "int32"), tirx.const(0, "int32")
                store_vector(b, total, self._whole(0), *start)
                with b.serial(self.quads, "quad") as quad:
                    words = load_vector(packed, at, panel, as_expr(quad, "int64"), column, count=lanes)
                    right = self.dot.right(tirx.reinterpret(f"int8x{QUAD * lanes}", words))
                    ones = tuple(b.let(v) for v in self.dot.left(one[0], False))
                    store_vector(b, total, self.dot.add(load_vector(total, *start, count=lanes), ones, right), *start)
                rest = tirx.Broadcast(_narrow(as_expr(self.depth, "int64")) * tirx.const(self.rest, "int32"), lanes)
                offset = (load_vector(total, *start, count=lanes) - rest) * self._whole(-self.a_zero)
                store_vector(b, offsets, offset, at, panel, column)
        return b.stage()

    def _pack(self, packed: tirx.Var, to: tuple, first: tirx.Expr) -> None:
        """One quad of `lanes` columns from `first`. The last column repeats; zeros follow the depth."""
        b, lanes = self.b, self.lanes
        k = b.let(to[2] * QUAD)
        flips = FLIPS if self.w.dtype == "uint8" else 0
        depth, cols = as_expr(self.depth, "int64"), as_expr(self.cols, "int64")

        def single(lane: Index) -> None:
            n = b.let(tirx.min(first + lane, cols - 1))

            def byte(i: int) -> tirx.Expr:
                here = tirx.min(k + i, depth - 1)
                value = self.source[(*self.place, n, here) if self.swapped else (*self.place, here, n)].astype("int32")
                value = value ^ tirx.const(flips & 0x80, "int32")
                return tirx.Select(k + i < depth, value & tirx.const(0xFF, "int32"), tirx.const(0, "int32"))

            word = byte(0)
            for i in range(1, QUAD):
                word = word | tirx.shift_left(byte(i), tirx.const(8 * i, "int32"))
            b.store(packed, (*to[:3], to[3] + lane), word)

        def whole() -> None:
            if self.swapped:
                with b.serial(lanes, "lane") as lane:
                    word = word_at(self.source, (*self.place, first + lane, k), QUAD)
                    b.store(packed, (*to[:3], to[3] + lane), word ^ tirx.const(flips, "int32"))
                return
            rows = [load_vector(self.source, *self.place, k + i, first, count=lanes) for i in range(QUAD)]
            words = woven(b, [b.let(row) for row in rows], lanes)
            store_vector(b, packed, words ^ self._whole(flips), *to)

        with b.when(tirx.And(first + lanes <= cols, k + QUAD <= depth)):
            whole()
        with b.otherwise(), b.serial(lanes, "lane") as lane:
            single(as_expr(lane, "int64"))

    def _whole(self, value: int) -> tirx.Expr:
        return tirx.Broadcast(tirx.const(value, "int32"), self.lanes)

    # ---- the product ------------------------------------------------------------------------------------------------
    def kernel(self) -> Stage:
        """The product; a task is a block of rows and a panel of columns."""
        tile = self.tile
        kind = "s8" if self.a.dtype == "int8" else "u8"
        b = self.b = Builder(f"matmul_{kind}s8_{tile.rows}x{tile.cols}_{self.target.isa}")
        blocks = simplify((self.rows + (self.block - 1)) // self.block)
        with b:
            self.left, self.right = b.arg(self.a), b.arg(self.packed)
            self.taken, self.out = b.arg(self.offsets), b.arg(self.call.result)
            extents = [*self.batch, blocks, self.panels]
            with b.parallel(product(extents)) as p:
                *place, block, self.panel = unravel(b, p, extents)
                self.place = tuple(place)
                self.place_a = batch_place(self.place, self.a.shape[:-2])
                self.place_w = flat_place(b, batch_place(self.place, self.w.shape[:-2]), self.w.shape[:-2])
                at, whole = b.let(block * self.block), simplify(self.cols // tile.cols)
                left = simplify(self.cols - whole * tile.cols)

                def body(width: Index) -> None:
                    row_tiles(b, self.rows, at, self.block, tile.rows, partial(self._tile, width=width))

                if isinstance(self.cols, int) and 0 in (whole, left):
                    body(left or tile.cols)
                else:
                    with b.when(self.panel < whole):
                        body(tile.cols)
                    with b.otherwise():
                        body(left)
        return b.stage()

    def _tile(self, rows: int, first: tirx.Expr, width: Index) -> None:
        b, tile, lanes = self.b, self.tile, self.lanes
        vectors = WIDE + (self.rest != 0)  # the last one: ones
        acc = b.local((rows, vectors * lanes), "int32")
        for i in range(rows):
            for j in range(vectors):
                store_vector(b, acc, self._whole(0), *_at(i, j * lanes))
        depth = as_expr(self.depth, "int64")

        def step(quad: tirx.Expr, known: bool) -> None:
            words = [
                load_vector(self.right, self.place_w, self.panel, quad, tirx.const(j * lanes, "int64"), count=lanes)
                for j in range(WIDE)
            ]
            right = [self.dot.right(b.let(tirx.reinterpret(f"int8x{QUAD * lanes}", word))) for word in words]
            if self.rest:
                right.append(self.dot.right(tirx.reinterpret(f"int8x{QUAD * lanes}", self._ones(quad, known))))
            held = [tuple(b.let(v) for v in vector) for vector in right]
            for i in range(rows):
                word = self._word(first + i, quad, known)
                left = tuple(b.let(v) for v in self.dot.left(b.let(word), self.a.dtype == "int8"))
                for j in range(vectors):
                    here = load_vector(acc, *_at(i, j * lanes), count=lanes)
                    store_vector(b, acc, self.dot.add(here, left, held[j]), *_at(i, j * lanes))

        whole = self.depth // QUAD if isinstance(self.depth, int) else tirx.truncdiv(depth, _int(QUAD))
        with b.serial(whole, "q") as q:
            step(as_expr(q, "int64"), True)
        if not isinstance(self.depth, int):
            with b.when(tirx.truncmod(depth, _int(QUAD)) > 0):
                step(tirx.truncdiv(depth, _int(QUAD)), False)
        elif self.depth % QUAD:
            step(_int(self.depth // QUAD), False)
        for i in range(rows):
            for j in range(WIDE):
                column = tirx.const(j * lanes, "int64")
                total = load_vector(acc, *_at(i, j * lanes), count=lanes)
                total = total + load_vector(self.taken, self.place_w, self.panel, column, count=lanes)
                if self.rest:
                    total = total - load_vector(acc, *_at(i, WIDE * lanes), count=lanes) * self._whole(self.rest)
                store_vector(b, acc, total, *_at(i, j * lanes))

        def write(value: tirx.Expr, i: tirx.Expr, c: tirx.Expr) -> None:
            at = (*self.place, first + i, self.panel * tile.cols + c)
            b.bind(self.call.outputs[0], lambda *_: value)
            b.share(at, self.call.result.shape)
            b.store(self.out, at, self.call.final(*at))

        if isinstance(width, int):
            store_tile(b, acc, rows, width, tile, write)
        else:
            store_some(b, acc, rows, width, tile, write, "int32")

    def _word(self, row: tirx.Expr, quad: tirx.Expr, known: bool) -> tirx.Expr:
        """Four bytes of a row; the last ones of a depth that is no multiple of four are repeated, B has zeros there."""
        if known:
            return word_at(self.left, (*self.place_a, row, quad * QUAD), QUAD)
        last = as_expr(self.depth, "int64") - 1

        def byte(i: int) -> tirx.Expr:
            value = self.left[(*self.place_a, row, tirx.min(quad * QUAD + i, last))].astype("int32")
            return tirx.shift_left(value & tirx.const(0xFF, "int32"), tirx.const(8 * i, "int32"))

        return byte(0) | byte(1) | byte(2) | byte(3)

    def _ones(self, quad: tirx.Expr, known: bool) -> tirx.Expr:
        if known:
            return self._whole(ONES)
        count = _narrow(as_expr(self.depth, "int64") - quad * QUAD)  # 1 to 3
        mask = tirx.shift_left(tirx.const(1, "int32"), count * 8) - 1
        return tirx.Broadcast(mask & tirx.const(ONES, "int32"), self.lanes)


def _at(i: int, j: int) -> tuple[tirx.Expr, tirx.Expr]:
    return tirx.const(i, "int32"), tirx.const(j, "int32")


def _narrow(value: tirx.Expr) -> tirx.Expr:
    return value.astype("int32")


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
