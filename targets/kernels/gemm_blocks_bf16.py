"""Blocked products of many rows on AMX in bfloat16, which sums over the whole depth in float32.

Sums of bytes would have to leave the tiles every 32 steps for the scales of their block. Here a task unpacks its
weights once for all rows, scales and minima worked in, and the rows come as bfloat16, too: a stage before makes them
of their codes. So each factor is rounded to 8 bits of mantissa, which is less than the 8-bit codes of rows lost.
"""

from __future__ import annotations

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
from .tensor import Index, as_expr, product, simplify
from .tiles import Tile
from .tiles_emit import prefetch_write, store_tile

if TYPE_CHECKING:
    from .gemm_blocks_amx import AmxBlocks

LEAST = BLOCK  # rows from which on this is faster than tiles of bytes
BAND = 256  # rows of a task
MOST_BLOCKS = 20  # of 32 steps, unpacked at once: 40 KB
PAIR = 2  # panels unpacked at once


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
    """The part of a kernel of AmxBlocks that takes many rows."""

    def __init__(self, k: AmxBlocks, rows: Temp) -> None:
        self.k, self.b, self.w = k, k.b, k.w
        self.left = k.b.arg(rows)
        unit = SUPER // STEP if self.w.super_scale is not None else 1
        # equal chunks: the fewest that divide the depth
        self.chunk = max(n for n in range(unit, MOST_BLOCKS + 1, unit) if self.w.blocks % n == 0)
        self.chunks = self.w.blocks // self.chunk

    def locals(self) -> None:
        """What a task needs of memory."""
        self.unpacked = vector_local(self.b, (self.chunk * PAIR * SIDE, SIDE), "uint32")
        self.totals = vector_local(self.b, (BLOCK if self.chunks == 1 else BAND, BLOCK), "float32")

    def task(self, first: tirx.Expr, group: tirx.Expr, panels: int) -> None:
        """Up to BAND rows from `first` times the panels of a group, two at a time."""
        b, w, k = self.b, self.w, self.k
        count = b.let(tirx.min(_long(BAND), k.rows - first))
        tiles = b.let(tirx.truncdiv(count + (BLOCK - 1), _long(BLOCK)))
        with b.serial(_long(panels // PAIR), "pair") as pair:
            panel = b.let(group * panels + as_expr(pair, "int64") * PAIR)
            with b.when(panel < w.panels), b.serial(_long(self.chunks), "chunk") as chunk:
                block = b.let(as_expr(chunk, "int64") * self.chunk)
                for p in range(PAIR):
                    with b.when(panel + p < w.panels):
                        self.unpack(b.let(panel + p), block, p)
                with b.serial(tiles, "tile") as t:
                    row = b.let(first + t * BLOCK)
                    line = _long(0) if self.chunks == 1 else b.let(t * BLOCK)
                    last = tirx.EQ(block + self.chunk, _long(w.blocks))
                    with b.when(last), b.serial(_long(BLOCK), "r") as r:
                        for p in range(PAIR):
                            prefetch_write(b, k.tail.view, [row + r, (panel + p) * SIDE])
                    self.multiply(row, line, block)
                    with b.when(last):
                        self.store(row, line, panel)

    def unpack(self, panel: tirx.Expr, first: tirx.Expr, p: int) -> None:
        """unpacked = a chunk of blocks from `first` on as pairs of bfloat16, for the pair's panel p."""
        b, w, k = self.b, self.w, self.k
        with b.serial(_long(self.chunk), "block") as i:
            block = b.let(first + as_expr(i, "int64"))
            factors = k.reader.super_factors(panel, tirx.truncdiv(block, _long(SUPER // STEP)))
            shared = []
            for part in range(w.parts):
                scale, least = self.weight(panel, b.let(block * w.parts + part), factors)
                shared.append((scale, least))
            each = QUADS // w.parts
            line = b.let((as_expr(i, "int64") * PAIR + p) * SIDE)
            for q, code in enumerate(k.reader.codes(panel, block, 0, QUADS)):
                scale, least = shared[q // each]
                words = b.let(tirx.reinterpret(f"uint32x{SIDE}", code))
                values = []
                for j in range(QUAD):
                    byte = tirx.shift_right(words, splat(8 * j, "uint32", SIDE)) if j else words
                    byte = byte & splat(0xFF, "uint32", SIDE) if j < QUAD - 1 else byte
                    value = byte.astype("int32x16").astype(f"float32x{SIDE}") * scale
                    values.append(value if least is None else value + least)
                for j in range(0, QUAD, 2):
                    store_vector(b, self.unpacked, pairs(*values[j : j + 2]), line + (q * QUAD + j) // 2, _int(0))

    def weight(
        self, panel: tirx.Expr, row: tirx.Expr, factors: dict[str, tirx.Expr]
    ) -> tuple[tirx.Expr, tirx.Expr | None]:  # fmt: skip
        """Scale and, where there is one, minimum of a block of weights: these are scale * code + minimum."""
        b, w = self.b, self.w
        scale = self.k.factor("scale", panel, row, factors)
        if w.minimum is None:
            return scale, b.let(scale * splat(-float(w.zero), "float32", SIDE)) if w.zero else None
        least = self.k.factor("minimum", panel, row, factors)
        return scale, least if w.super_minimum is None else b.let(splat(0.0, "float32", SIDE) - least)

    def multiply(self, row: tirx.Expr, line: tirx.Expr, block: tirx.Expr) -> None:
        """totals from `line` on: 32 rows from `row` on times the chunk, added to what chunks before gave."""
        b = self.b
        spots = [(i, j, SUMS[2 * i + j]) for i in range(2) for j in range(2)]
        with b.when(tirx.EQ(block, _long(0))):
            for _, _, tile in spots:
                amx.zero(b, tile)
        with b.otherwise():
            for i, j, tile in spots:
                amx.load(b, tile, self.total(line, i, j), BLOCK * 4)
        tile = b.let(tirx.truncdiv(row, _long(BLOCK)))
        with b.serial(_long(self.chunk), "step") as s:
            step = as_expr(s, "int64")
            for j in range(2):
                amx.load(b, COLS[j], tirx.address_of(self.unpacked[(step * PAIR + j) * SIDE, _int(0)]), ROW)
            for i in range(2):
                at = tirx.address_of(self.left[tile, block + step, _int(i * SIDE), _int(0)])
                amx.load_once(b, ROWS[i], at, ROW)
                for j in range(2):
                    amx.multiply_bf16(b, SUMS[2 * i + j], ROWS[i], COLS[j])
        for i, j, tile in spots:
            amx.store(b, tile, self.total(line, i, j), BLOCK * 4)

    def total(self, line: tirx.Expr, i: int, j: int) -> tirx.Expr:
        """The address of one of four tiles of totals."""
        return tirx.address_of(self.totals[line + i * SIDE, _int(j * SIDE)])

    def store(self, row: tirx.Expr, line: tirx.Expr, panel: tirx.Expr) -> None:
        """Stores 32 rows of totals from `row` on, as many as there are."""
        b, w, k = self.b, self.w, self.k
        count = b.let(tirx.min(_long(BLOCK), k.rows - row))
        whole, rest = divmod(w.cols, SIDE)

        def piece(p: int, width: int) -> None:
            with b.serial(count, "row") as i:
                held = b.local((1, SIDE), "float32")
                value = load_vector(self.totals, line + i, _int(p * SIDE), count=SIDE)
                store_vector(b, held, value, _int(0), _int(0))
                store_tile(
                    b, held, 1, width, Tile(1, 1, SIDE),
                    lambda v, _, c: k.tail.write(v, row + i, (panel + p) * SIDE + c),
                )  # fmt: skip

        for p in range(PAIR):
            with b.when(panel + p < whole):
                piece(p, SIDE)
            if rest:
                with b.when(tirx.EQ(panel + p, _long(whole))):
                    piece(p, rest)


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")


def _long(i: int) -> tirx.Expr:
    return tirx.const(i, "int64")
