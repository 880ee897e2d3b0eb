"""Rows of a table with weights as GGUF's types have them, as floats: read from the panels that gemm_blocks.py takes
for products, so that a model whose output layer is its table of embeddings keeps it once.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

from .block_codes import QUADS, STEP, SUPER, BlockCodes
from .builder import Builder
from .dot import QUAD, load_vector, store_vector
from .loops import GRAIN
from .nibbles import splat
from .planes import Lower, upper_of
from .reading import Rows
from .registry import Call, template
from .stage import Stage
from .tails import MatrixTail
from .tensor import product
from .tiles import Tile
from .tiles_emit import store_tile

_KIND = f"float32x{QUAD}"


@template("edgert.GatherBlocks")
def gather_blocks(call: Call, target: Target) -> list[Stage] | None:
    """ids, constant codes [V, K] and what their blocks share -> float32 [..., K]."""
    weights, ids = BlockCodes.of(call.attrs, call.inputs[1:6], target), call.need(0)
    if weights is None or product(ids.shape) == 0:
        return None
    return [_Gather(call, target, weights).stage()]


class _Gather:
    """One kernel under construction."""

    def __init__(self, call: Call, target: Target, weights: BlockCodes) -> None:
        self.call, self.target, self.w = call, target, weights
        self.stored = upper_of(weights) if weights.planes else weights
        self.lower = Lower(weights) if weights.planes else None
        self.b = Builder(f"gather_{weights.kind}f32_{target.isa}")

    def stage(self) -> Stage:
        """The kernel."""
        b, w, ids = self.b, self.w, self.call.need(0)
        rows, lanes = product(ids.shape), min(self.target.lanes("float32"), STEP)
        numbers, table = b.arg(ids, (rows,)), self.stored.const()
        self.data = b.arg(table)
        b.reading.rows = Rows(table, ids, w.cols, w.lanes, self.stored.panel_bytes)
        if self.lower is not None:
            self.low = b.arg(self.lower.const)
            b.reading.beside = Rows(self.lower.const, ids, w.cols, w.lanes, self.lower.panel_bytes)
        tail, tile = MatrixTail(b, self.call), Tile(1, STEP // lanes, lanes)
        with b, b.parallel(rows, max(1, GRAIN // w.depth)) as row:
            given = b.let(numbers[row].astype("int64"))
            at = b.let(tirx.Select(given < 0, given + w.cols, given))
            self.panel = b.let(tirx.truncdiv(at, tirx.const(w.lanes, "int64")))
            self.lane = b.let(tirx.truncmod(at, tirx.const(w.lanes, "int64")))
            with b.serial(tirx.const(w.blocks, "int64"), "block") as block:
                values = b.local((1, STEP), "float32")
                self._step(values, block)
                store_tile(b, values, 1, STEP, tile, lambda v, i, c: tail.write(v, row + i, block * STEP + c))
        return b.stage()

    def _load(self, name: str, row: tirx.Expr) -> tirx.Expr:
        """This column's element in a row of a part."""
        part = self.stored.layout[name]
        item = np.dtype(part.dtype).itemsize
        at = part.start + (row * self.w.lanes + self.lane) * item
        if part.dtype == "uint8":
            return self.data[self.panel, at]
        loaded = load_vector(self.data, self.panel, at, count=item) if item > 1 else self.data[self.panel, at]
        return self.b.let(tirx.reinterpret(part.dtype, loaded))

    def _factor(self, name: str, row: tirx.Expr, block: tirx.Expr) -> tirx.Expr:
        value = self._load(name, row).astype("float32")
        if f"super {name}" in self.stored.layout:
            more = self._load(f"super {name}", tirx.truncdiv(block, tirx.const(SUPER // STEP, "int64")))
            value = value * more.astype("float32")
        return self.b.let(value)

    def _quad(self, block: tirx.Expr, q: int) -> tirx.Expr:
        """Four neighbouring codes, as a vector of uint32."""
        w = self.stored
        if w.bits == 8:
            return _bytes(self._load("low", block * QUADS + q), 0, 255)
        code = _bytes(self._load("low", block * (QUADS // 2) + q // 2), 4 * (q % 2), 15)
        if w.bits > 4:
            wide, each = w.bits - 4, 8 // (w.bits - 4)
            high = _bytes(self._load("high", block * wide + q // each), wide * (q % each), (1 << wide) - 1)
            code = code | tirx.shift_left(high, splat(4, "uint32", QUAD))
        return code if self.lower is None else self._whole(code, block, q)

    def _whole(self, code: tirx.Expr, block: tirx.Expr, q: int) -> tirx.Expr:
        """Codes of the upper plane with the lower one's bits."""
        assert self.lower is not None
        code = tirx.shift_left(code, splat(self.w.planes, "uint32", QUAD))
        for wide, to, start in self.lower.words:
            each = 8 // wide
            row = block * (QUADS // each) + q // each
            loaded = load_vector(self.low, self.panel, start + (row * self.w.lanes + self.lane) * 4, count=4)
            bits = _bytes(self.b.let(tirx.reinterpret("uint32", loaded)), wide * (q % each), (1 << wide) - 1)
            code = code | tirx.shift_left(bits, splat(to, "uint32", QUAD))
        return code

    def _step(self, values: tirx.Var, block: tirx.Expr) -> None:
        """values = 32 neighbours of the row."""
        b, w = self.b, self.w
        each = QUADS // w.parts
        for part in range(w.parts):
            row = block * w.parts + part
            scale = tirx.Broadcast(self._factor("scale", row, block), QUAD)
            least = None if w.minimum is None else tirx.Broadcast(self._factor("minimum", row, block), QUAD)
            for q in range(part * each, (part + 1) * each):
                code = tirx.reinterpret(f"int32x{QUAD}", self._quad(block, q)) - splat(w.zero, "int32", QUAD)
                value = code.astype(_KIND) * scale
                if least is not None:
                    value = value + least if w.super_minimum is None else value - least
                store_vector(b, values, value, tirx.const(0, "int32"), tirx.const(q * QUAD, "int32"))


def _bytes(word: tirx.Expr, shift: int, mask: int) -> tirx.Expr:
    """Each byte of a word, moved right by `shift` and masked, in a lane of its own."""
    shifts = tirx.Ramp(tirx.const(shift, "int32"), tirx.const(8, "int32"), QUAD).astype(f"uint32x{QUAD}")
    return tirx.shift_right(tirx.Broadcast(word, QUAD), shifts) & splat(mask, "uint32", QUAD)
