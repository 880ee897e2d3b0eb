"""Products of floats with constant weights of 4 or 8 bits, which become floats in registers and nowhere else.

With many rows a weight is decoded, scaled and used for all rows of a tile; of one row the scale is applied to the sum
of each block, and the kernel's time is that of reading the weights.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

from .blocked_weights import BlockedWeights
from .builder import Builder
from .dot import load_vector, store_vector
from .nibbles import WORD, Codes, Lookup, looks_up, splat
from .panels import walk
from .registry import Call, template
from .stage import Const, Stage
from .tails import MatrixTail
from .tensor import Index, product
from .tiles import Tile
from .tiles_emit import store_tile

SINGLE = 4  # panels at once of one row: enough sums to hide the latency of an addition


@template("edgert.GemmBlocked")
def gemm_blocked(call: Call, target: Target) -> list[Stage] | None:
    """a float32 [..., M, K] x constant (q - zero) * scale, q of 4 or 8 bits [K, N] (transB: [N, K])."""
    weights = BlockedWeights.of(call.attrs, *call.inputs[1:4])
    if weights is None or weights.scale is None or (weights.block and weights.block % WORD):
        return None
    return _Linear(call, target, weights, f"gemm_blocked_f32{weights.q.dtype}").stages()


class BlockedKernel:
    """One product under construction."""

    def __init__(self, call: Call, target: Target, weights: BlockedWeights, name: str) -> None:
        self.call, self.target, self.weights = call, target, weights
        self.lanes = target.lanes("float32")
        self.a = call.need(0)
        self.rows = product(self.a.shape[:-1])
        # beside its sums a tile holds words, scales and one decoded vector of each panel, zeros, a table
        self.tile = (11, 2) if target.registers >= 32 else (8, 1)
        if isinstance(self.rows, int):
            self.tile = (min(self.rows, self.tile[0]), self.tile[1])
        self.b = Builder(f"{name}_g{weights.block}_{self.tile[0]}x{self.tile[1]}_{target.isa}")

    def reader(self) -> Codes:
        """What makes floats of codes."""
        raise NotImplementedError

    def stages(self) -> list[Stage] | None:
        """The stage; None for an empty product."""
        b, w = self.b, self.weights
        if isinstance(self.rows, int) and self.rows == 0:
            return None
        self.left = b.arg(self.a, (self.rows, w.depth))
        self.codes = self.reader()
        self.scale = None if w.scale is None else b.arg(w.scales(self.lanes, self.target))
        self.zero = None if w.centred else b.arg(w.zeros(self.lanes))
        self.tail = MatrixTail(b, self.call)
        size = self.lanes * w.depth * w.bits // 8
        with b:
            walk(b, self.rows, w.cols, 4 * w.depth, self.lanes, self.tile, SINGLE, size, self.target, self.emit)
        return [b.stage()]

    def emit(self, count: int, first: tirx.Expr, panel: tirx.Expr, vecs: int, width: int) -> None:
        """`count` rows from `first` times `vecs` panels from `panel`, of which `width` columns are stored."""
        b, w, lanes = self.b, self.weights, self.lanes
        tile = Tile(count, vecs, lanes)
        late = w.blocks == 1 or count * vecs <= SINGLE  # scales applied to sums, not to weights
        total = self._clear(count, vecs)
        self._panels([panel + j for j in range(vecs)])
        whole, rest = divmod(w.depth, w.step)

        def block(at: Index, length: int) -> None:
            at64 = tirx.const(at, "int64") if isinstance(at, int) else at
            scales = [self._scale(panel + j, at64) for j in range(vecs)]
            zeros = [self._zero(panel + j, at64) for j in range(vecs)]
            held = total if w.blocks == 1 or not late else self._clear(count, vecs)
            words = w.step // WORD
            self._steps(held, count, first, panel, vecs, at64 * words if w.blocks > 1 else tirx.const(0, "int64"),
                        length, [None] * vecs if late else scales, zeros)  # fmt: skip
            if late:
                self._scaled(total, held, count, scales)

        if whole == 1:
            block(0, w.step)
        else:
            with b.serial(tirx.const(whole, "int64"), "block") as at:
                block(at, w.step)
        if rest:
            block(whole, rest)
        store_tile(b, total, count, width, tile, lambda v, i, c: self.tail.write(v, first + i, panel * lanes + c))

    def _clear(self, count: int, vecs: int) -> tirx.Var:
        acc = self.b.local((count, vecs * self.lanes), "float32")
        for i in range(count):
            for j in range(vecs):
                self._put(acc, i, j, splat(0.0, "float32", self.lanes))
        return acc

    def _get(self, acc: tirx.Var, i: int, j: int) -> tirx.Expr:
        return load_vector(acc, _int(i), _int(j * self.lanes), count=self.lanes)

    def _put(self, acc: tirx.Var, i: int, j: int, value: tirx.Expr) -> None:
        store_vector(self.b, acc, value, _int(i), _int(j * self.lanes))

    def _scale(self, panel: tirx.Expr, block: tirx.Expr) -> tirx.Expr | None:
        if self.scale is None:
            return None
        loaded = load_vector(self.scale, panel, block, _int(0), count=self.lanes)
        return self.b.let(loaded.astype(f"float32x{self.lanes}"))

    def _zero(self, panel: tirx.Expr, block: tirx.Expr) -> tirx.Expr | None:
        if self.zero is None:
            return None
        loaded = load_vector(self.zero, panel, block, _int(0), count=self.lanes)
        return self.b.let(loaded.astype(f"float32x{self.lanes}"))

    def _panels(self, panels: list[tirx.Expr]) -> None:
        """Loads what the decoding of these panels needs."""

    def _scaled(self, total: tirx.Var, held: tirx.Var, count: int, scales: list[tirx.Expr | None]) -> None:
        """total += held * scale, or total *= scale where they are the same."""
        for i in range(count):
            for j, scale in enumerate(scales):
                if scale is None:
                    if held is not total:
                        self._put(total, i, j, self._get(total, i, j) + self._get(held, i, j))
                elif held is total:
                    self._put(total, i, j, self._get(total, i, j) * scale)
                else:
                    self._put(total, i, j, self._get(total, i, j) + self._get(held, i, j) * scale)

    def _steps(
        self, acc: tirx.Var, count: int, first: tirx.Expr, panel: tirx.Expr, vecs: int, word: tirx.Expr, length: int,
        scales: list[tirx.Expr | None], zeros: list[tirx.Expr | None],
    ) -> None:  # fmt: skip
        """acc += `length` steps of the depth from word number `word` on."""
        b = self.b

        def group(at: tirx.Expr, steps: int) -> None:
            loaded = [self.codes.load(panel + j, at) for j in range(vecs)]
            for s in range(steps):
                values = []
                for j, (zero, scale) in enumerate(zip(zeros, scales, strict=True)):
                    value = self.codes.value(loaded[j], panel + j, at, s, j)
                    value = value if zero is None else value - zero
                    values.append(b.let(value if scale is None else value * scale))
                for i in range(count):
                    x = tirx.Broadcast(self.left[first + i, at * WORD + s], self.lanes)
                    for j, value in enumerate(values):
                        self._put(acc, i, j, self._get(acc, i, j) + x * value)

        turns, rest = divmod(length, WORD)
        if turns == 1:
            group(word, WORD)
        elif turns:
            with b.serial(tirx.const(turns, "int64"), "word") as t:
                group(b.let(word + t), WORD)
        if rest:
            group(word + turns, rest)


class _Linear(BlockedKernel):
    """Codes that are whole numbers."""

    def reader(self) -> Codes:
        b, w, lanes = self.b, self.weights, self.lanes
        codes = b.arg(w.codes(lanes, biased=False))
        if w.bits == 4 and looks_up(self.target, lanes) == "permute":
            # a table of -8 to 7 takes one instruction less than shifting and converting
            first = -8 if w.signed else 0
            numbers = np.roll(np.arange(first, first + 16, dtype=np.float32), first).reshape(1, 16)
            return Lookup(b, codes, b.arg(Const((1, 16), "float32", lambda: numbers, f"levels{first}")), lanes,
                          self.target)  # fmt: skip
        return Codes(b, codes, w.bits, w.signed, lanes)

    def _panels(self, panels: list[tirx.Expr]) -> None:
        if isinstance(self.codes, Lookup):
            self.codes.begin([tirx.const(0, "int64")])


def _int(i: int) -> tirx.Expr:
    return tirx.const(i, "int32")
