"""Blocked products of many rows on AMX in bfloat16, which sums over the whole depth in float32.

Sums of bytes would have to leave the tiles every 32 steps for the scales of their block. Here a task unpacks its
weights once for all rows, scales and minima worked in, and the rows come as bfloat16, too: a stage before makes them
of their codes. So each factor is rounded to 8 bits of mantissa, which is less than the 8-bit codes of rows lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import tirx

from targets.target import Target

from . import amx
from .aligned import vector_local
from .amx import BLOCK, COLS, ROW, ROWS, SIDE, SUMS
from .bf16 import pairs, rounded
from .block_codes import QUADS, STEP, SUPER, BlockCodes
from .builder import Builder
from .dot import QUAD, load_vector, store_vector
from .loops import GRAIN
from .nibbles import splat
from .registry import Call
from .stage import Stage, Temp
from .tails import unravel
from .tensor import Index, Tensor, as_expr, product, simplify
from .tiles import Tile
from .tiles_emit import prefetch_write, store_tile

if TYPE_CHECKING:
    from .gemm_blocks_amx import AmxBlocks

BAND = 256  # rows of a task
MOST_BLOCKS = 20  # of 32 steps, unpacked at once: 40 KB
PAIR = 2  # panels unpacked at once
MANTISSA = 23  # bits of a float's mantissa


def bf16_rows(call: Call, target: Target, weights: BlockCodes, runs: Index) -> tuple[Stage, Temp]:
    """The stage that makes bfloat16 rows of the call's codes and scales, and those as tiles lie, [ceil(M / 32)][K / 32]
    of 32 rows of 32 elements. runs: 1, or 0 to skip it."""
    rows = product(call.need(0).shape[:-1])
    whole = simplify((rows + (BLOCK - 1)) // BLOCK)
    temp = Temp((whole, weights.blocks, BLOCK, STEP), "uint16", "rows")
    b = Builder(f"bf16_rows_{target.isa}")
    codes, scales = b.arg(call.need(0), (rows, weights.depth)), b.arg(call.need(1), (rows, weights.blocks))
    out = b.arg(temp)
    with b, b.parallel(rows * runs, max(1, GRAIN // weights.depth)) as row:
        tile, line = unravel(b, row, [whole, BLOCK])
        with b.serial(_long(weights.blocks), "block") as block:
            scale = b.let(tirx.Broadcast(scales[row, block], SIDE))
            for i in range(0, STEP, SIDE):
                at = b.let(as_expr(block, "int64") * STEP + i)
                value = load_vector(codes, row, at, count=SIDE).astype(f"float32x{SIDE}") * scale
                bits = tirx.shift_right(rounded(value), splat(16, "uint32", SIDE))
                store_vector(b, out, bits.astype(f"uint16x{SIDE}"), tile, block, line, _int(i))
    return b.stage(), temp


class Bf16Task:
    """The part of a kernel of AmxBlocks that takes many rows.

    The first 32 rows are multiplied while weights are unpacked: matrix unit and vector registers work side by side. So
    they do in the rows that follow, where each 32 are stored while the next are multiplied.
    """

    def __init__(self, sides: tuple[AmxBlocks, AmxBlocks], rows: Temp | Tensor) -> None:
        """sides: the product of the left and of the right one of two panels."""
        self.sides, (self.k, _) = sides, sides
        self.b, self.w = self.k.b, self.k.w
        self.left = self.b.arg(rows)
        unit = SUPER // STEP if any(k.w.super_scale is not None for k in sides) else 1
        # equal chunks: the fewest that divide the depth
        self.chunk = max(n for n in range(unit, MOST_BLOCKS + 1, unit) if self.w.blocks % n == 0)
        self.chunks = self.w.blocks // self.chunk
        # rows that are stored between two steps
        self.few = next(n for n in (1, 2, 4, 8, 16, BLOCK) if n * self.chunk >= BLOCK)

    def locals(self) -> None:
        """What a task needs of memory."""
        self.unpacked = vector_local(self.b, (self.chunk * PAIR * SIDE, SIDE), "uint32")
        self.totals = vector_local(self.b, (BLOCK if self.chunks == 1 else BAND, BLOCK), "float32")

    def panel(self, panel: tirx.Expr, p: int) -> tirx.Expr:
        """The left (p = 0) and right (1) panel of a task that is named by the left one."""
        return panel + p

    def task(self, first: tirx.Expr, panel: tirx.Expr) -> None:
        """Up to BAND rows from `first` times two panels."""
        b, w, k = self.b, self.w, self.k
        count = b.let(tirx.min(_long(BAND), k.rows - first))
        tiles = b.let(tirx.truncdiv(count + (BLOCK - 1), _long(BLOCK)))

        def line(t: tirx.Expr) -> tirx.Expr:
            return _long(0) if self.chunks == 1 else b.let(t * BLOCK)

        def rest(block: tirx.Expr, last: bool) -> None:
            with b.serial(tiles - 1, "tile", 1) as t:
                t = as_expr(t, "int64")
                row = b.let(first + t * BLOCK)

                def between(start: tirx.Expr, number: int) -> None:
                    before = b.let(row - BLOCK)
                    for r in range(number):
                        self.fetch(row, start + r, panel)
                        self.store(before + (start + r), line(t - 1) + (start + r), panel)

                self.multiply(row, line(t), block, between if last else None)

        with b.when(panel < w.panels):
            with b.serial(_long(self.chunks), "chunk") as chunk:
                block = b.let(as_expr(chunk, "int64") * self.chunk)

                def unpack(i: tirx.Expr) -> None:
                    self.unpack(i, b.let(block + i), panel)

                unpack(_long(0))
                self.multiply(first, _long(0), block, None, unpack)
                last = tirx.EQ(block + self.chunk, _long(w.blocks))
                if self.chunks == 1:
                    rest(block, True)
                else:
                    with b.when(last):
                        rest(block, True)
                    with b.otherwise():
                        rest(block, False)
            before = b.let((tiles - 1) * BLOCK)
            with b.serial(count - before, "row") as i:
                self.store(first + before + i, line(tiles - 1) + i, panel)

    def unpack(self, i: tirx.Expr, block: tirx.Expr, panel: tirx.Expr) -> None:
        """Block number i of unpacked = a block as pairs of bfloat16, of both panels."""
        for p in range(PAIR):
            one = self.b.let(self.panel(panel, p))
            with self.b.when(one < self.w.panels):
                self.unpack_panel(self.sides[p], self.b.let((i * PAIR + p) * SIDE), block, one)

    def unpack_panel(self, k: AmxBlocks, line: tirx.Expr, block: tirx.Expr, panel: tirx.Expr) -> None:
        """unpacked from `line` on = a block of a panel of k's.

        A code becomes 2^bits + code where it lies at the top of a float's mantissa, 2^bits its exponent.
        """
        b, w = self.b, k.w
        factors = k.reader.super_factors(panel, tirx.truncdiv(block, _long(SUPER // STEP)))
        shared = []
        for part in range(w.parts):
            scale, least = _weight(k, panel, b.let(block * w.parts + part), factors)
            start = scale * splat(-float(1 << w.bits), "float32", SIDE)
            shared.append((scale, b.let(start if least is None else least + start)))
        if w.bits == 4:
            words = [b.let(k.reader.load("low", panel, block * (QUADS // 2) + q)) for q in range(QUADS // 2)]
        else:
            kind = f"uint32x{SIDE}"
            words = [b.let(tirx.reinterpret(kind, code)) for code in k.reader.codes(panel, block, 0, QUADS)]
        top = MANTISSA - w.bits
        exponent = splat((127 + w.bits) << MANTISSA, "uint32", SIDE)
        for q in range(QUADS):
            scale, start = shared[q // (QUADS // w.parts)]
            values = []
            for j in range(QUAD):
                word, at = (words[q // 2], 8 * j + 4 * (q % 2)) if w.bits == 4 else (words[q], 8 * j)
                by = splat(abs(top - at), "uint32", SIDE)
                code = tirx.shift_left(word, by) if top > at else tirx.shift_right(word, by) if at > top else word
                code = (code & splat(((1 << w.bits) - 1) << top, "uint32", SIDE)) | exponent
                number = tirx.reinterpret(f"float32x{SIDE}", code)
                values.append(tirx.call_llvm_pure_intrin(f"float32x{SIDE}", "llvm.fma", number, scale, start))
            for j in range(0, QUAD, 2):
                store_vector(b, self.unpacked, pairs(*values[j : j + 2]), line + (q * QUAD + j) // 2, _int(0))

    def multiply(
        self, row: tirx.Expr, line: tirx.Expr, block: tirx.Expr,
        between: Callable[[tirx.Expr, int], None] | None = None, unpack: Callable[[tirx.Expr], None] | None = None,
    ) -> None:  # fmt: skip
        """totals from `line` on: 32 rows from `row` on times the chunk, added to what chunks before gave.

        between(start, number): emitted between the steps until all rows of 32 had their turn. unpack(i): what has to be
        before step i, for all but the first.
        """
        b = self.b
        spots = [(i, j, SUMS[2 * i + j]) for i in range(2) for j in range(2)]
        with b.when(tirx.EQ(block, _long(0))):
            for _, _, tile in spots:
                amx.zero(b, tile)
        with b.otherwise():
            for i, j, tile in spots:
                amx.load(b, tile, self.total(line, i, j), BLOCK * 4)
        tile = b.let(tirx.truncdiv(row, _long(BLOCK)))

        def step(s: tirx.Expr) -> None:
            for j in range(2):
                amx.load(b, COLS[j], tirx.address_of(self.unpacked[(s * PAIR + j) * SIDE, _int(0)]), ROW)
            for i in range(2):
                at = tirx.address_of(self.left[tile, block + s, _int(i * SIDE), _int(0)])
                amx.load_once(b, ROWS[i], at, ROW)
                for j in range(2):
                    amx.multiply_bf16(b, SUMS[2 * i + j], ROWS[i], COLS[j])

        done = 0
        if unpack is not None:
            done = self.chunk - 1
            with b.serial(_long(done), "step") as s:
                step(as_expr(s, "int64"))
                unpack(b.let(as_expr(s, "int64") + 1))
        elif between is not None:
            done = BLOCK // self.few
            with b.serial(_long(done), "step") as s:
                step(as_expr(s, "int64"))
                between(b.let(as_expr(s, "int64") * self.few), self.few)
        with b.serial(_long(self.chunk - done), "step", done) as s:
            step(as_expr(s, "int64"))
        for i, j, tile in spots:
            amx.store(b, tile, self.total(line, i, j), BLOCK * 4)

    def total(self, line: tirx.Expr, i: int, j: int) -> tirx.Expr:
        """The address of one of four tiles of totals."""
        return tirx.address_of(self.totals[line + i * SIDE, _int(j * SIDE)])

    def fetch(self, row: tirx.Expr, r: tirx.Expr, panel: tirx.Expr) -> None:
        """Asks for the lines that row r of 32 from `row` on will be stored in."""
        for p in range(PAIR):
            prefetch_write(self.b, self.k.tail.view, [row + r, (panel + p) * SIDE])

    def store(self, row: tirx.Expr, line: tirx.Expr, panel: tirx.Expr) -> None:
        """Stores a row of totals."""
        b, w, k = self.b, self.w, self.k
        whole, rest = divmod(w.cols, SIDE)

        def piece(p: int, width: int) -> None:
            held = b.local((1, SIDE), "float32")
            store_vector(b, held, load_vector(self.totals, line, _int(p * SIDE), count=SIDE), _int(0), _int(0))
            tile = Tile(1, 1, SIDE)
            store_tile(b, held, 1, width, tile, lambda v, _, c: k.tail.write(v, row, (panel + p) * SIDE + c))

        for p in range(PAIR):
            if w.cols % BLOCK == 0:
                piece(p, SIDE)
                continue
            with b.when(panel + p < whole):
                piece(p, SIDE)
            if rest:
                with b.when(tirx.EQ(panel + p, _long(whole))):
                    piece(p, rest)


def _weight(
    k: AmxBlocks, panel: tirx.Expr, row: tirx.Expr, factors: dict[str, tirx.Expr]
) -> tuple[tirx.Expr, tirx.Expr | None]:  # fmt: skip
    """Scale and, where there is one, minimum of a block of weights: these are scale * code + minimum."""
    w = k.w
    scale = k.factor("scale", panel, row, factors)
    if w.minimum is None:
        return scale, k.b.let(scale * splat(-float(w.zero), "float32", SIDE)) if w.zero else None
    least = k.factor("minimum", panel, row, factors)
    return scale, least if w.super_minimum is None else k.b.let(splat(0.0, "float32", SIDE) - least)


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")


def _long(i: int) -> tirx.Expr:
    return tirx.const(i, "int64")
