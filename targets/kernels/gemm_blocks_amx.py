"""Blocked products on AMX: the integer sums of each block are a matrix unit's, their scaling that of vector registers.

A task is four panels of 16 columns times up to 64 rows. Of a panel so many blocks are unpacked at once as fit a local
buffer, zero points taken off; unpacked quads are the rows of a right tile as they are. Then, for up to 16 rows at once,
one multiplication makes a block's sums, while those of the block before are scaled and added up in 16 registers.

Rows from half_rows.LEAST on are multiplied as bfloat16 instead, which spares the scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.target import Target

from . import amx, gemm_blocks_bf16
from .aligned import vector_local
from .amx import COLS, ROW, ROWS, SIDE, SUMS
from .block_codes import QUADS, STEP, SUPER, BlockCodes
from .builder import Builder
from .dot import load_vector, store_vector
from .gemm_blocks import SINGLE, Case, GemmBlocks
from .gemm_blocks_bf16 import Bf16Task
from .gemm_tasks import known_rows
from .half_rows import LEAST as MANY
from .nibbles import splat
from .registry import Call
from .stage import Stage, Temp
from .tails import unravel
from .tensor import Index, Tensor, as_expr, product, simplify
from .tiles import Tile
from .tiles_emit import store_tile

TILES = 8  # number of the input that has rows as bfloat16, where there is one
LEAST = 8  # rows from which on this is faster than vpdpbusd
BAND = 64  # rows of a task: enough to unpack a panel for
MOST_BLOCKS = 18  # unpacked at once: 9 KB
SHARES = SINGLE // gemm_blocks_bf16.PAIR  # tasks of a group of panels where rows are many
HEIGHTS = (8, 16)  # rows of tiles for a number of rows known only at run time


def amx_blocks(call: Call, target: Target, weights: BlockCodes) -> list[Stage] | None:
    """The stage; None where AMX is not there or does not pay."""
    most = product(call.need(0).shape[:-1])
    if not takes(target, most, weights.bits, weights.zero):
        return None
    if len(call.inputs) > TILES and (tiles := call.inputs[TILES]) is not None:
        return [AmxBlocks(call, target, weights, tiles).stage()]
    if isinstance(most, int) and most < MANY:
        return [AmxBlocks(call, target, weights, None).stage()]
    runs = 1 if isinstance(most, int) else tirx.Select(most >= MANY, _long(1), _long(0))
    first, halves = gemm_blocks_bf16.bf16_rows(call, target, weights, runs)
    return [first, AmxBlocks(call, target, weights, halves).stage()]


def takes(target: Target, rows: Index, bits: int, zero: int) -> bool:
    """Whether this is how so many rows are multiplied with such weights."""
    # codes less zero point are to be signed bytes
    return target.tiles == "amx" and known_rows(rows) >= LEAST and (bits < 8 or zero == 128)


class AmxBlocks(GemmBlocks):
    """One product under construction. halves: its rows as bfloat16, filled where there are enough of them."""

    def __init__(
        self, call: Call, target: Target, weights: BlockCodes, halves: Temp | Tensor | None, b: Builder | None = None
    ) -> None:  # fmt: skip
        super().__init__(call, target, weights, b)
        self.halves = halves
        self.heights = (min(self.rows, SIDE),) if isinstance(self.rows, int) else HEIGHTS
        chunks = -(-weights.blocks // MOST_BLOCKS)
        if weights.super_scale is not None:  # whole super blocks
            chunks = -(-weights.blocks // (SUPER // STEP * (MOST_BLOCKS // (SUPER // STEP))))
        # equal ones: the fewest that divide the depth
        while weights.blocks % chunks or (weights.super_scale is not None and weights.blocks // chunks % 8):
            chunks += 1
        self.chunks, self.chunk = chunks, weights.blocks // chunks
        self.each = weights.parts * (1 if weights.minimum is None else 2)  # vectors that scale a block
        self.b.kernel = f"gemm_s8{weights.kind}_{self.heights[-1]}x16_amx"

    def walk(self) -> None:
        """Emits the parallel loop."""
        wide = None if self.halves is None else Bf16Task((self, self), self.halves)
        self.run(wide, [self])

    def run(self, wide: Bf16Task | None, products: Sequence[AmxBlocks]) -> None:
        """Emits the parallel loop of products of the same rows with as many weights."""
        b, rows = self.b, self.rows
        self.configure(wide is not None)
        alike = len({one.w.parts for one in products}) == 1
        for one in products:
            one.reader.spans(one.groups, SINGLE)
            if wide is None or not isinstance(rows, int):
                one.locals()
        size: Index = BAND
        if wide is not None:
            wide.locals()
            size = tirx.Select(rows >= MANY, _long(gemm_blocks_bf16.BAND), _long(BAND))
        bands = simplify((rows + (size - 1)) // size)
        if wide is not None:  # a task of fewer panels, so that threads get even shares
            bands = simplify(bands * tirx.Select(rows >= MANY, _long(SHARES), _long(1)))
        with b.parallel(simplify(self.groups * bands)) as p:
            group, band = unravel(b, p, [self.groups, bands])
            narrow = wide is None or not isinstance(rows, int)
            cases: list[Case] = self.cases(products, group, band, alike) if narrow else []
            if wide is not None:
                first = b.let(tirx.truncdiv(band, _long(SHARES)) * gemm_blocks_bf16.BAND)
                panel = b.let(group * SINGLE + tirx.truncmod(band, _long(SHARES)) * gemm_blocks_bf16.PAIR)
                cases.insert(0, (rows >= MANY, lambda: wide.task(first, panel)))
            self.by_rows(cases)
        self.by_rows([(rows >= LEAST, lambda: amx.release(b))])

    def locals(self) -> None:
        """What a task of few rows needs of memory."""
        b, w = self.b, self.w
        self.unpacked = vector_local(b, (self.chunk * QUADS, ROW), "int8")
        self.made = vector_local(b, (2 * w.parts * SIDE, SIDE), "int32")
        self.factors = vector_local(b, (self.chunk * self.each, SIDE), "float32")
        self.totals = vector_local(b, (BAND, SIDE), "float32")

    def cases(self, products: Sequence[AmxBlocks], group: tirx.Expr, band: tirx.Expr, alike: bool) -> list[Case]:
        """Tasks of few rows, one product after the other. alike: whether their tiles are, which are set up already."""
        b, rows = self.b, self.rows

        def in_turn(*tasks: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                for task in tasks:
                    task()

            return run

        def task(one: AmxBlocks, height: int) -> Callable[[], None]:
            def run() -> None:
                if not alike:
                    amx.configure(b, one.shapes(), one.heights.index(height))
                one.task(b.let(band * BAND), group, height)

            return run

        cases: list[Case] = [
            (rows >= h, in_turn(*[task(one, h) for one in products])) for h in sorted(self.heights, reverse=True)
        ]
        if not isinstance(rows, int):
            for same in zip(*(one.few(group, LEAST - 1) for one in products), strict=True):
                cases.append((same[0][0], in_turn(*[task for _, task in same])))
        return cases

    def configure(self, wide: bool) -> None:
        """The tiles' shapes."""
        b, rows = self.b, self.rows
        table = self.shapes()
        entry = 0 if isinstance(rows, int) else tirx.Select(rows >= SIDE, _long(1), _long(0))
        cases: list[Case] = [(rows >= LEAST, lambda: amx.configure(b, table, entry))]
        if wide:
            halves = b.arg(amx.configurations(ROW, [(SIDE, SIDE)]))
            cases.insert(0, (rows >= MANY, lambda: amx.configure(b, halves, 0)))
        self.by_rows(cases)

    def shapes(self) -> tirx.Var:
        """The table of the tiles' shapes, one for each height."""
        return self.b.arg(amx.configurations(STEP // self.w.parts, [(h, h) for h in self.heights]))

    def task(self, first: tirx.Expr, group: tirx.Expr, height: int) -> None:
        """Up to 64 rows from `first` times the panels of a group, in tiles of `height` rows."""
        b, rows = self.b, self.rows
        count = b.let(tirx.min(_long(BAND), rows - first))
        tiles = b.let(tirx.truncdiv(count + (height - 1), _long(height)))

        def start(t: tirx.Expr) -> tirx.Expr:  # the last one starts early, so that it is whole
            return b.let(tirx.min(first + t * height, rows - height))

        def one(panel: tirx.Expr, width: int) -> None:
            with b.serial(_long(self.chunks), "chunk") as chunk:
                block = b.let(as_expr(chunk, "int64") * self.chunk)
                self.unpack(panel, block)
                with b.serial(tiles, "tile") as t:
                    self.tile_rows(panel, block, start(t), b.let(t * height), height)
            with b.serial(tiles, "tile") as t:
                at = start(t)
                skip = b.let(first + t * height - at)  # stored by the tile before

                def write(value: tirx.Expr, i: tirx.Expr, c: tirx.Expr) -> None:
                    self.tail.write(value, at + i, panel * SIDE + c)

                with b.serial(height - skip, "row", skip) as i:
                    line = b.let(t * height + i)
                    held = b.local((1, SIDE), "float32")
                    store_vector(b, held, load_vector(self.totals, line, _int(0), count=SIDE), _int(0), _int(0))
                    store_tile(b, held, 1, width, Tile(1, 1, SIDE), lambda v, _, c: write(v, i, c))

        self.panels(group, one)

    def unpack(self, panel: tirx.Expr, first: tirx.Expr) -> None:
        """unpacked = a chunk of blocks from `first` on, as signed bytes."""
        b, w = self.b, self.w
        ask = self.reader.ahead(panel)
        with b.serial(_long(self.chunk), "block") as i:
            block = b.let(first + as_expr(i, "int64"))
            ask(block)
            for q, code in enumerate(self.reader.codes(panel, block, 0, QUADS)):
                if w.zero:
                    code = code - splat(w.zero - 256 if w.zero > 127 else w.zero, "int8", ROW)
                store_vector(b, self.unpacked, code, i * QUADS + q, _int(0))
            factors = self.reader.super_factors(panel, tirx.truncdiv(block, _long(SUPER // STEP)))
            shared = self.shared(panel, block, factors)
            for n, value in enumerate(v for pair in shared for v in pair if v is not None):
                store_vector(b, self.factors, value, i * self.each + n, _int(0))

    def tile_rows(self, panel: tirx.Expr, start: tirx.Expr, row: tirx.Expr, line: tirx.Expr, height: int) -> None:
        """totals from `line` on += `height` rows from `row` on times a chunk of blocks from `start` on."""
        b, w, parts = self.b, self.w, self.w.parts
        total = b.local((height, SIDE), "float32")
        with b.when(tirx.EQ(start, _long(0))):
            for i in range(height):
                store_vector(b, total, splat(0.0, "float32", SIDE), _int(i), _int(0))
        with b.otherwise():
            for i in range(height):
                store_vector(b, total, load_vector(self.totals, line + i, _int(0), count=SIDE), _int(i), _int(0))

        def multiply(block: tirx.Expr) -> None:
            for part in range(parts):
                to = b.let((tirx.bitwise_and(block, _long(1)) * parts + part) * SIDE)
                amx.zero(b, SUMS[part])
                at = (start + block) * STEP + part * (STEP // parts)
                amx.load(b, ROWS[part], tirx.address_of(self.left[row, at]), w.depth)
                codes = self.unpacked[block * QUADS + part * (QUADS // parts), _int(0)]
                amx.load(b, COLS[part], tirx.address_of(codes), ROW)
                amx.multiply(b, SUMS[part], ROWS[part], COLS[part], signed=True)
                amx.store(b, SUMS[part], tirx.address_of(self.made[to, _int(0)]), ROW)

        def scale(block: tirx.Expr) -> None:
            here = b.let(start + block)
            held = [
                b.let(load_vector(self.factors, block * self.each + n, _int(0), count=SIDE)) for n in range(self.each)
            ]
            step = 1 if w.minimum is None else 2
            shared = [(held[n], held[n + 1] if step == 2 else None) for n in range(0, self.each, step)]
            slot = b.let(tirx.bitwise_and(block, _long(1)) * (parts * SIDE))
            for i in range(height):
                sums = [load_vector(self.made, slot + (part * SIDE + i), _int(0), count=SIDE) for part in range(parts)]
                self.add(total, i, row + i, here, sums, shared)

        multiply(_long(0))
        with b.serial(_long(self.chunk - 1), "block") as block:
            multiply(b.let(as_expr(block, "int64") + 1))
            scale(as_expr(block, "int64"))
        scale(_long(self.chunk - 1))
        for i in range(height):
            store_vector(b, self.totals, load_vector(total, _int(i), _int(0), count=SIDE), line + i, _int(0))


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")


def _long(i: int) -> tirx.Expr:
    return tirx.const(i, "int64")
