"""LSTM and GRU in integers: int16 activations and states, int8 weights, sums in int32 (int64 where they would not fit).

The arithmetic is integer from the codes of x to the new states, so that every target gives the same bits. Cells are
those of ONNX's LSTM-22 and GRU-22 (linear_before_reset); the formats are in fixed_point.py. Weights of one unit lie
together, [gates][4] for four elements of the sum; for Cortex-M's DSP instructions in the order in which SXTB16 takes
them (bytes 0 and 2, then 1 and 3), so that SMLAD finds two weights beside the two activations of one word.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from targets.target import Target

from .builder import Builder
from .dot import load_word
from .dot_dsp import dsp, turned
from .fixed_point import (
    CELL_BITS,
    GATE_BITS,
    I32,
    I64,
    UNIT_BITS,
    from_float,
    multipliers,
    rounded_shift,
    sigmoid,
    tanh,
    times,
    to_float,
    whole,
)
from .stage import Const, Stage, Temp
from .tensor import Index, Tensor, as_expr, product

QUAD = 4
MOST_UNIT, MOST_CELL = (1 << UNIT_BITS) - 1, 1 << 30


@dataclass(eq=False)
class Matrix:
    """Constant weights int8 [D, gates * H, K], and float32 scales [gates * H]: gate = sum(codes * w) * scale."""

    weights: Tensor
    scale: np.ndarray

    @property
    def depth(self) -> int:
        """K."""
        return int(self.weights.shape[2])

    def data(self) -> np.ndarray:
        """The weights."""
        assert self.weights.data is not None
        return np.asarray(self.weights.data())

    def bound(self) -> int:
        """What no sum exceeds, whatever the int16 codes are."""
        return int(np.abs(self.data().astype(np.int64)).sum(axis=2).max(initial=1)) << 15


@dataclass(eq=False)
class Layer:
    """x int16 [T, N, I]; bias float32 [D, 2 * gates * H]; h0, c0 float32 [D, N, H]; reverse: of each direction."""

    kind: str  # LSTM or GRU
    x: Tensor
    w: Matrix
    r: Matrix
    bias: np.ndarray
    h0: Tensor | None
    c0: Tensor | None
    reverse: list[bool]

    @property
    def gates(self) -> int:
        """Of one unit."""
        return 4 if self.kind == "LSTM" else 3

    @property
    def hidden(self) -> int:
        """H."""
        return self.r.depth

    def macs(self) -> int:
        """Multiply-accumulates of all steps; 0 where their number is not known."""
        sizes = [*self.x.shape[:2], *self.w.weights.shape[:2], self.w.depth + self.hidden]
        return math.prod(int(s) for s in sizes) if all(isinstance(s, int) for s in sizes) else 0

    def fits(self) -> bool:
        """Whether every gate fits its format."""
        small = np.abs(self.bias).max(initial=0) < 2.0**12
        return bool(small) and all(multipliers(m.scale, m.bound()) is not None for m in (self.w, self.r))


class Kernel:
    """One stage: a task is one sequence of one direction, through all steps."""

    def __init__(self, layer: Layer, results: list[Tensor], wanted: list[bool], target: Target) -> None:
        self.layer, self.results, self.wanted = layer, results, wanted
        self.pairs = target.dot == "smlad"
        self.lanes = QUAD if target.vector_bytes >= 16 else 1
        tasks = product([len(layer.reverse), layer.x.shape[1]])
        deep = -(-layer.w.depth // QUAD) * QUAD
        self.units = -(-layer.hidden // QUAD) * QUAD
        self.row = Temp((tasks, deep), "int16", "codes")
        self.state = Temp((tasks, 2, self.units), "int16", "hidden")
        self.cell = Temp((tasks, layer.hidden), I32, "cell")

    # ---- constants ------------------------------------------------------------------------------------------------
    def _packed(self, matrix: Matrix) -> Const:
        """[D, H, quads, gates * 4]."""
        gates, hidden, quads = self.layer.gates, self.layer.hidden, -(-matrix.depth // QUAD)
        order = [0, 2, 1, 3] if self.pairs and self._narrow(matrix) else [0, 1, 2, 3]

        def make() -> np.ndarray:
            data = np.pad(matrix.data(), [(0, 0), (0, 0), (0, quads * QUAD - matrix.depth)])
            data = data.reshape(-1, gates, hidden, quads, QUAD)[..., order]
            return np.ascontiguousarray(data.transpose(0, 2, 3, 1, 4)).reshape(-1, hidden, quads, gates * QUAD)

        shape = (len(self.layer.reverse), hidden, quads, gates * QUAD)
        name = matrix.weights.name
        return Const(shape, "int8", make, f"{name}:recurrent16:{gates}:{order}", f"{name}_packed")

    def _factors(self, matrix: Matrix) -> tuple[Const, int]:
        """[H, gates] and the shift."""
        found = multipliers(matrix.scale, matrix.bound())
        assert found is not None, "a gate does not fit"
        data, shift = np.ascontiguousarray(found[0].reshape(self.layer.gates, self.layer.hidden).T), found[1]
        return self._known(data, matrix.weights.name, "factors"), shift

    def _known(self, data: np.ndarray, name: str, what: str) -> Const:
        key = f"{name}:{what}:{hashlib.sha256(data.tobytes()).hexdigest()}"
        return Const(data.shape, str(data.dtype), lambda: data, key, f"{name}_{what}")

    def _bias(self) -> Const:
        """Q16 [D, H, gates + 1]: both halves in one, but the last gate of a GRU has its recurrent half at the end."""
        gates, hidden = self.layer.gates, self.layer.hidden
        both = self.layer.bias.astype(np.float64).reshape(-1, 2, gates, hidden)
        total = np.concatenate([both.sum(axis=1), both[:, 1, -1:]], axis=1)
        if self.layer.kind == "GRU":
            total[:, gates - 1] = both[:, 0, -1]
        data = np.rint(total * 2.0**GATE_BITS).astype(np.int32).transpose(0, 2, 1)
        return self._known(np.ascontiguousarray(data), self.layer.r.weights.name, "bias")

    @staticmethod
    def _narrow(matrix: Matrix) -> bool:
        return matrix.bound() < 1 << 31

    # ---- the kernel -----------------------------------------------------------------------------------------------
    def stage(self) -> Stage:
        """The kernel."""
        layer = self.layer
        self.b = b = Builder(f"{layer.kind.lower()}_int16_h{layer.hidden}")
        batch, steps = as_expr(layer.x.shape[1], I64), as_expr(layer.x.shape[0], I64)
        with b, b.parallel(product([len(layer.reverse), layer.x.shape[1]])) as self.task:
            self.d = d = b.let(tirx.floordiv(self.task, batch), "d")
            n = b.let(tirx.floormod(self.task, batch), "n")
            self._start(d, n)
            y = b.arg(self.results[0]) if self.wanted[0] else None
            with b.serial(steps, "s") as count:
                s = as_expr(count, I64)
                t = b.let(self._time(s, steps), "t")
                old = b.let(tirx.floormod(s, as_expr(2, I64)), "old")
                with b.serial(layer.w.depth, "k") as k:
                    b.store(b.arg(self.row), (self.task, k), layer.x(t, n, k))
                with b.serial(layer.hidden, "j") as j:
                    j = as_expr(j, I64)
                    new = self._unit(j, old)
                    b.store(b.arg(self.state), (self.task, 1 - old, j), new)
                    if y is not None:
                        b.store(y, (t, d, n, j), to_float(new, UNIT_BITS))
            self._finish(d, n, b.let(tirx.floormod(steps, as_expr(2, I64)), "last"))
        return b.stage()

    def _time(self, s: tirx.Expr, steps: tirx.Expr) -> tirx.Expr:
        back = steps - 1 - s
        if len(self.layer.reverse) == 1:
            return back if self.layer.reverse[0] else s
        return tirx.Select(tirx.EQ(self.d, as_expr(0, I64)), s, back)

    def _start(self, d: tirx.Expr, n: tirx.Expr) -> None:
        """States as integers; zeros behind the last unit and behind the last code, which the sums run over."""
        b, layer = self.b, self.layer
        state, row = b.arg(self.state), b.arg(self.row)
        for which in range(2):
            for j in range(layer.hidden, self.units):
                b.store(state, (self.task, which, j), whole(0, "int16"))
        for k in range(layer.w.depth, int(self.row.shape[1])):
            b.store(row, (self.task, k), whole(0, "int16"))
        with b.serial(layer.hidden, "j") as j:
            h = whole(0) if layer.h0 is None else from_float(layer.h0(d, n, j), UNIT_BITS, MOST_UNIT)
            b.store(state, (self.task, 0, j), h.astype("int16"))
            if layer.kind == "LSTM":
                c = whole(0) if layer.c0 is None else from_float(layer.c0(d, n, j), CELL_BITS, MOST_CELL)
                b.store(b.arg(self.cell), (self.task, j), c)

    def _finish(self, d: tirx.Expr, n: tirx.Expr, last: tirx.Expr) -> None:
        b, held = self.b, (self.state, self.cell)
        for which, bits in enumerate((UNIT_BITS, CELL_BITS)):
            if self.wanted[which + 1]:
                state, out = b.arg(held[which]), b.arg(self.results[which + 1])
                with b.serial(self.layer.hidden, "j") as j:
                    value = state[self.task, last, j].astype(I32) if which == 0 else state[self.task, j]
                    b.store(out, (d, n, j), to_float(value, bits))

    def _unit(self, j: tirx.Expr, old: tirx.Expr) -> tirx.Expr:
        """Unit j's new hidden state, int16; an LSTM's cell state is stored."""
        b, bias, gates = self.b, self.b.arg(self._bias()), self.layer.gates
        row, state = b.arg(self.row), b.arg(self.state)
        given = self._gates(self.layer.w, j, lambda k: [row, self.task, k])
        kept = self._gates(self.layer.r, j, lambda k: [state, self.task, old, k])

        def gate(g: int) -> tirx.Expr:
            return b.keep(given[g] + kept[g] + bias[self.d, j, g])

        if self.layer.kind == "LSTM":
            i, o, f = (sigmoid(b, gate(g)) for g in range(3))
            c = b.arg(self.cell)
            left = times(f, c[self.task, j], GATE_BITS)
            added = times(i, tanh(b, gate(3)), GATE_BITS + UNIT_BITS - CELL_BITS)
            b.store(c, (self.task, j), tirx.min(tirx.max(left + added, whole(-MOST_CELL)), whole(MOST_CELL)))
            after = tanh(b, rounded_shift(c[self.task, j], CELL_BITS - GATE_BITS))
            return b.keep(times(o, after, GATE_BITS).astype("int16"))
        z, r = sigmoid(b, gate(0)), sigmoid(b, gate(1))
        again = times(r, kept[2] + bias[self.d, j, gates], GATE_BITS)
        new = tanh(b, b.keep(given[2] + bias[self.d, j, 2] + again))
        before = state[self.task, old, j].astype(I32)
        return b.keep((new + times(z, before - new, GATE_BITS)).astype("int16"))

    def _gates(self, matrix: Matrix, j: tirx.Expr, at: Callable[[Index], list]) -> list[tirx.Expr]:
        """Q16 of unit j's gates: one matrix times the codes at `at(k)`."""
        b, gates = self.b, self.layer.gates
        narrow = self._narrow(matrix)
        pairs, lanes = self.pairs and narrow, self.lanes if narrow else 1
        kind = I32 if narrow else I64
        factors, shift = self._factors(matrix)
        packed, factor = b.arg(self._packed(matrix)), b.arg(factors)
        acc = b.local((gates, lanes), kind)
        for g in range(gates):
            with b.vector(lanes) as v:
                b.store(acc, (g, v), tirx.const(0, kind))
        with b.serial(-(-matrix.depth // QUAD), "q") as q:
            q = as_expr(q, I64)
            if pairs:
                words = [b.keep(_pair(*at(q * QUAD + 2 * i))) for i in range(2)]
            for g in range(gates):
                if pairs:
                    word = b.keep(load_word(packed, self.d, j, q, as_expr(g * QUAD, I64)))
                    first = dsp("smlad", words[0], dsp("sxtb16", word), acc[g, 0])
                    b.store(acc, (g, 0), dsp("smlad", words[1], dsp("sxtb16", turned(word)), first))
                    continue
                for i in range(0, QUAD, lanes):
                    with b.vector(lanes) as v:
                        buffer, *place = at(q * QUAD + i + v)
                        term = buffer[tuple(place)].astype(I32) * packed[self.d, j, q, g * QUAD + i + v].astype(I32)
                        b.store(acc, (g, v), acc[g, v] + term.astype(kind))
        made = []
        for g in range(gates):
            total = acc[g, 0]
            for lane in range(1, lanes):
                total = total + acc[g, lane]
            made.append(b.keep(times(total, factor[j, g], shift)))
        return made


def _pair(buffer: tirx.Var, *place: Index) -> tirx.Expr:
    """Two int16 of `buffer` from there on, as one word."""
    *lead, last = (as_expr(p, I64) for p in place)
    return tirx.reinterpret(I32, tirx.BufferLoad(buffer, [*lead, tirx.Ramp(last, tirx.const(1, I64), 2)]))
