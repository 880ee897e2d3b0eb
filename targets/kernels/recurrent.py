"""LSTM, GRU and RNN with constant weights: one product for all inputs, then a step at a time with packed weights.

The weights of `group` hidden units lie together, all gates of them, so that a unit's new state is computed while its
gates are still in registers. Units beyond the last have weights of zero, which keeps their state at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import tirx

from targets.target import Target

from .attention import pieces
from .builder import Builder
from .loops import span
from .recurrent_cells import CELLS, Cell
from .registry import Call, template
from .stage import Const, Stage, Temp
from .tensor import Index, Tensor, as_expr, product


@template("LSTM")
def lstm(call: Call, target: Target) -> list[Stage] | None:
    """Inputs and outputs as in ONNX; default activations, no clip, no coupled gates; float32, constant W, R, B, P."""
    return _recurrent(call, target)


@template("GRU")
def gru(call: Call, target: Target) -> list[Stage] | None:
    """As LSTM; linear_before_reset = 1 only."""
    return _recurrent(call, target) if call.attrs.get("linear_before_reset") else None


@template("RNN")
def rnn(call: Call, target: Target) -> list[Stage] | None:
    """As LSTM, with tanh."""
    return _recurrent(call, target)


def _recurrent(call: Call, target: Target) -> list[Stage] | None:
    inputs = [*call.inputs, *[None] * (8 - len(call.inputs))]
    x, w, r, bias = call.need(0), call.need(1), call.need(2), inputs[3]
    cell = CELLS[call.op]
    directions = 2 if call.attrs.get("direction") == "bidirectional" else 1
    names = [a.lower() for a in call.attrs.get("activations") or cell.activations * directions]
    if names != cell.activations * directions or call.attrs.get("clip") or call.attrs.get("input_forget"):
        return None
    constants = [t for t in (w, r, bias, inputs[7]) if t is not None]
    if x.dtype != "float32" or any(t.data is None for t in constants):
        return None
    return _Layer(call, inputs, cell, target).stages()


class _Layer:
    def __init__(self, call: Call, inputs: list[Tensor | None], cell: Cell, target: Target) -> None:
        self.call, self.cell, self.target = call, cell, target
        self.x, self.w, self.r = (call.need(i) for i in range(3))
        self.bias, self.lengths, self.h0, self.c0, self.peep = inputs[3:]
        self.batch_first = bool(call.attrs.get("layout", 0))
        self.directions, rows, self.depth = (int(s) for s in self.w.shape)
        self.hidden = rows // cell.gates
        self.steps: Index = self.x.shape[1 if self.batch_first else 0]
        self.batch: Index = self.x.shape[0 if self.batch_first else 1]
        self.lanes = target.lanes("float32")
        # vectors of units: eight accumulators hide the latency of a multiply-add, and the input takes three rows
        wide = target.registers >= 32 and self.hidden > self.lanes
        self.vectors = (2 if cell.gates > 1 else 4) if wide else 1
        self.group = self.vectors * self.lanes
        self.panels = -(-self.hidden // self.group)
        self.padded = self.panels * self.group
        self.columns = cell.gates * self.group  # of a panel
        rows_in = product([self.steps, self.batch])
        self.gates = Temp((self.directions, rows_in, self.panels * self.columns), "float32", "gates")
        self.name = f"{call.op.lower()}_f32_h{self.hidden}_{target.name}"

    # ---- constants ------------------------------------------------------------------------------------------------
    def pack(self, leaf: Tensor, rows: int) -> Const:
        """[D, gates * H, K] as [D, panels, K, gates, group]; rows = gates."""
        shape = (self.directions, self.panels, int(leaf.shape[2]), rows, self.group)

        def make() -> np.ndarray:
            return self.grouped(_data(leaf)).transpose(0, 2, 4, 1, 3)

        return Const(shape, "float32", make, f"{leaf.name}:recurrent{rows}x{self.group}", leaf.name)

    def grouped(self, data: np.ndarray) -> np.ndarray:
        """[D, rows * H, ...] as [D, rows, panels, group, ...], filled up with zeros."""
        data = data.reshape(self.directions, -1, self.hidden, *data.shape[2:])
        gap = [(0, 0)] * data.ndim
        gap[2] = (0, self.padded - self.hidden)
        data = np.pad(data, gap)
        return data.reshape(*data.shape[:2], self.panels, self.group, *data.shape[3:])

    def vector(self, leaf: Tensor, what: str, rows: Callable[[np.ndarray], np.ndarray], count: int) -> Const:
        """Numbers of each unit as [D, panels, count, group]; `rows` gives [D, count * H]."""
        return Const(
            (self.directions, self.panels, count, self.group), "float32",
            lambda: np.ascontiguousarray(self.grouped(rows(_data(leaf))).transpose(0, 2, 1, 3)),
            f"{leaf.name}:recurrent_{what}{self.group}", f"{leaf.name}.{what}",
        )  # fmt: skip

    def input_bias(self, data: np.ndarray) -> np.ndarray:
        """What is added to the input's product: both halves of B, but for a gate whose recurrent half stands apart."""
        size = self.cell.gates * self.hidden
        total = data[:, :size] + data[:, size:]
        if self.cell.apart:
            total[:, -self.hidden :] = data[:, size - self.hidden : size]
        return total

    # ---- kernels --------------------------------------------------------------------------------------------------
    def stages(self) -> list[Stage]:
        return [self.project(), self.recur()]

    def project(self) -> Stage:
        """gates = X W^T + B for all steps: a task is one panel of columns, three rows at a time."""
        b = Builder(f"{self.name}_input")
        lanes, width = self.lanes, self.columns
        with b:
            rows = product([self.steps, self.batch])
            x, out, w = b.arg(self.x, [rows, self.depth]), b.arg(self.gates), b.arg(self.pack(self.w, self.cell.gates))
            bias = None
            if self.bias is not None:
                bias = b.arg(self.vector(self.bias, "bias", self.input_bias, self.cell.gates))
            with b.parallel(self.directions * self.panels) as p:
                d, panel = (p // self.panels, p % self.panels) if self.directions > 1 else (as_expr(0, "int64"), p)
                view = b.let(panel * width, "column")

                def tile(row: Index, count: int) -> None:
                    acc = b.local((count * width,), "float32")
                    for i in range(count):
                        with b.unroll(width // lanes) as u, b.vector(lanes) as v:
                            at = u * lanes + v
                            start = 0.0 if bias is None else bias[d, panel, at // self.group, at % self.group]
                            b.store(acc, i * width + at, start)
                    with b.serial(self.depth, "k") as k:
                        for i in range(count):
                            value = b.let(x[as_expr(row) + i, as_expr(k)], "x")
                            self.accumulate(b, acc, i * width, value, w, (d, panel, k))
                    for i in range(count):
                        with b.unroll(width // lanes) as u, b.vector(lanes) as v:
                            b.store(out, (d, as_expr(row) + i, view + u * lanes + v), acc[i * width + u * lanes + v])

                pieces(b, rows, (3, 1), tile)
        return b.stage()

    def accumulate(self, b: Builder, acc: tirx.Var, at: int, value: tirx.Expr, w: tirx.Var, place: Sequence) -> None:
        """acc[at...] += value * one row of a panel."""
        lanes = self.lanes
        for gate in range(self.cell.gates):
            for u in range(self.vectors):
                with b.vector(lanes) as v:
                    index = at + gate * self.group + u * lanes + v
                    weight = w[(*(as_expr(i) for i in place), gate, u * lanes + v)]
                    b.store(acc, index, acc[index] + value * weight)

    def recur(self) -> Stage:
        """The steps: a task is one sequence in one direction."""
        b = Builder(f"{self.name}_steps")
        call, hidden, padded = self.call, self.hidden, self.padded
        with b:
            self.g, self.weights = b.arg(self.gates), b.arg(self.pack(self.r, self.cell.gates))
            self.extra = None  # per unit: peepholes, or the bias that stands apart
            if self.cell.apart and self.bias is not None:
                last = (2 * self.cell.gates - 1) * hidden
                self.extra = b.arg(self.vector(self.bias, "apart", lambda data: data[:, last:], 1))
            elif self.peep is not None:
                self.extra = b.arg(self.vector(self.peep, "peepholes", lambda data: data, 3))
            states = 3 if self.cell.memory else 2
            self.state = b.arg(Temp((product([self.directions, self.batch]), states, padded), "float32", "state"))
            outs = [b.arg(t) for t in call.results]
            lengths = None if self.lengths is None else b.arg(self.lengths)
            with b.parallel(product([self.directions, self.batch])) as self.task:
                d = self.d = b.let(self.task // as_expr(self.batch, "int64"), "d")
                n = b.let(self.task % as_expr(self.batch, "int64"), "n")
                place = [n, d] if self.batch_first else [d, n]
                for which, initial in ((0, self.h0), (2, self.c0)):
                    if which < states:
                        self.fill(b, which, initial, place)
                steps = as_expr(self.steps, "int64")
                length = steps
                if lengths is not None:
                    length = b.let(tirx.max(tirx.min(lengths[n].astype("int64"), steps), as_expr(0, "int64")), "length")
                with b.serial(length, "s") as s:
                    s = as_expr(s, "int64")
                    t = b.let(self.time(s, length), "t")
                    row = b.let(n * steps + t if self.batch_first else t * as_expr(self.batch, "int64") + n, "row")
                    self.step(b, row, b.let(s % 2, "old"))
                    self.copy_out(b, outs[0], [n, t, d] if self.batch_first else [t, d, n], b.let((s + 1) % 2, "new"))
                with b.serial(steps - length, "s") as s:
                    t = b.let(length + as_expr(s, "int64"), "t")
                    at = [n, t, d] if self.batch_first else [t, d, n]
                    span(b, hidden, self.lanes, lambda j: b.store(outs[0], [*at, j], 0.0))
                for which, out in zip((length % 2, 2), outs[1:], strict=False):
                    self.copy_out(b, out, place, as_expr(which))
        return b.stage()

    def fill(self, b: Builder, which: int, initial: Tensor | None, place: list) -> None:
        """The initial state, zero where none is given and in the units beyond the last."""
        span(b, self.padded, self.lanes, lambda j: b.store(self.state, [self.task, which, j], 0.0))
        if which == 0:
            span(b, self.padded, self.lanes, lambda j: b.store(self.state, [self.task, 1, j], 0.0))
        if initial is not None:
            source = b.arg(initial)

            def copy(j: tirx.Expr) -> None:
                b.store(self.state, [self.task, which, j], source[(*place, as_expr(j))])

            span(b, self.hidden, self.lanes, copy)

    def time(self, s: tirx.Expr, length: tirx.Expr) -> tirx.Expr:
        back = length - 1 - s
        direction = self.call.attrs.get("direction", "forward")
        if direction == "bidirectional":
            return tirx.Select(tirx.EQ(self.d, as_expr(0, "int64")), s, back)
        return back if direction == "reverse" else s

    def step(self, b: Builder, row: tirx.Expr, old: tirx.Expr) -> None:
        """One step: gates from the old state, the new state from the gates, a panel of units at a time."""
        lanes, group, gates = self.lanes, self.group, self.cell.gates
        with b.serial(self.panels, "panel") as panel:
            first = b.let(as_expr(panel, "int64") * self.columns, "first")
            acc = b.local((self.columns,), "float32")
            with b.unroll(self.columns // lanes) as u, b.vector(lanes) as v:
                start = 0.0 if self.cell.apart else self.g[self.d, row, first + u * lanes + v]
                b.store(acc, u * lanes + v, start)
            with b.serial(self.hidden, "k") as k:
                value = b.let(self.state[self.task, old, as_expr(k)], "h")
                self.accumulate(b, acc, 0, value, self.weights, (self.d, panel, k))
            for u in range(self.vectors):
                with b.vector(lanes) as v:
                    lane = u * lanes + v
                    unit = b.let(as_expr(panel, "int64") * group, "unit") + lane
                    parts = [acc[gate * group + lane] for gate in range(gates)]
                    inputs = [self.g[self.d, row, first + gate * group + lane] for gate in range(gates)]
                    extra = [] if self.extra is None else [
                        self.extra[self.d, panel, i, lane] for i in range(int(self.extra.shape[2]))
                    ]  # fmt: skip
                    memory = self.state[self.task, 2, unit] if self.cell.memory else None
                    result, kept = self.cell.update(b, parts, inputs, self.state[self.task, old, unit], memory, extra)
                    b.store(self.state, [self.task, 1 - old, unit], result)
                    if kept is not None:
                        b.store(self.state, [self.task, 2, unit], kept)

    def copy_out(self, b: Builder, out: tirx.Var, place: list, which: tirx.Expr) -> None:
        span(b, self.hidden, self.lanes, lambda j: b.store(out, [*place, j], self.state[self.task, which, as_expr(j)]))


def _data(leaf: Tensor) -> np.ndarray:
    assert leaf.data is not None
    return leaf.data()
