"""The steps of DynamicQuantizeLSTM: before each one the hidden states are quantized and multiplied with R."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Leaf, Stage, Temp
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr
from targets.target import Target

from . import mathfn as fn
from .contrib_lstm_product import Product, word_reader
from .quantize import requantize

if TYPE_CHECKING:
    from .contrib_lstm import Lstm

F32, I32, I64 = "float32", "int32", "int64"
Bounds = tuple[Callable[[], Scalar], Callable[[], Scalar], Callable[[int, Callable[[Index], Scalar]], None]]


def pieces(b: Builder, extent: int, size: int) -> Iterator[tuple[Index, int]]:
    """Loops over [0, extent) in pieces of `size`, then one by one: (where it starts, its size)."""
    done = 0
    for each in (size, 1):
        count = (extent - done) // each
        if count:
            with b.serial(count, "c") as c:
                yield done + as_expr(c, I64) * each, each
        done += count * each


def measured(b: Builder, lanes: int) -> Bounds:
    """The least and the largest of 0 and of what `add(count, read)` is given: (least(), largest(), add)."""
    least, most = b.local((lanes,), F32), b.local((lanes,), F32)
    for held in (least, most):
        with b.vector(lanes) as v:
            b.store(held, v, as_expr(0.0, F32))

    def add(count: int, read: Callable[[Index], Scalar]) -> None:
        for at, size in pieces(b, count, lanes):
            with b.vector(size) as v:
                b.store(least, v, tirx.min(least[v], read(at + v)))
                b.store(most, v, tirx.max(most[v], read(at + v)))

    def combined(held: tirx.Var, better: Callable[[Scalar, Scalar], Scalar]) -> Callable[[], Scalar]:
        def value() -> Scalar:
            with b.serial(lanes, "v") as v:
                b.store(held, 0, better(held[0], held[v]))
            return held[0]

        return value

    return combined(least, tirx.min), combined(most, tirx.max), add


def scale_of(b: Builder, least: Scalar, most: Scalar) -> tuple[Scalar, Scalar]:
    """Scale and zero point (a whole float32) of uint8 over [least, most], which includes 0."""
    one, steps = as_expr(1.0, F32), as_expr(255.0, F32)
    scale = b.let(fn.select(tirx.EQ(most, least), one, (most - least) / steps), "scale")
    return scale, b.let(requantize(as_expr(0.0, F32) - least / scale, None, "uint8").astype(F32), "zero")


class Steps:
    """One kernel, a task for each direction. `gates` [T, N, D * 4*H] holds the inputs' share, or a buffer that does."""

    def __init__(self, lstm: Lstm, gates: Leaf, results: list[Tensor], wanted: list[bool], target: Target) -> None:
        self.lstm, self.gates, self.results, self.wanted = lstm, gates, results, wanted
        self.lanes, self.product = target.lanes(F32), Product(lstm.r, target)
        self.steps, self.batch = lstm.given.shape[:2]
        d, h = len(lstm.reverse), lstm.hidden
        self.state = [Temp((d, self.batch, h), F32, name) for name in ("hidden", "cell")]
        self.bytes = Temp((d, self.batch, h), "uint8", "h_bytes")
        self.share = Temp((d, 4 * h), F32, "step_gates")

    def stage(self) -> Stage:
        """The kernel."""
        lstm, h = self.lstm, self.lstm.hidden
        b = Builder(f"dynamic_lstm_steps_h{h}")
        with b, b.parallel(len(lstm.reverse)) as d:
            hidden, cell = (b.arg(s) for s in self.state)
            with b.serial(self.batch, "n") as n, b.serial(h, "j") as j:
                for buffer, start in ((hidden, lstm.h0), (cell, lstm.c0)):
                    b.store(buffer, (d, n, j), as_expr(0.0, F32) if start is None else start(d, n, j))
            with b.serial(as_expr(self.steps, I64), "s") as count:
                s = as_expr(count, I64)
                scale, zero = self._quantize(b, d, s)
                with b.serial(self.batch, "n") as n:
                    length = lstm.length(n, self.steps)
                    if lstm.lengths is None:
                        self._step(b, d, n, b.let(self._time(d, s, length), "t"), scale, zero)
                    else:
                        with b.when(s < length):
                            self._step(b, d, n, b.let(self._time(d, s, length), "t"), scale, zero)
            self._finish(b, d)
        return b.stage()

    def _quantize(self, b: Builder, d: Scalar, s: Scalar) -> tuple[Scalar, Scalar]:
        """Writes the bytes of direction `d`'s hidden states before step s; gives their scale and zero point.

        A sequence that ended before the last step counts as 0 in the range, as ONNX Runtime has it.
        """
        hidden, out, h = b.arg(self.state[0]), b.arg(self.bytes), self.lstm.hidden
        least, most, add = measured(b, self.lanes)
        with b.serial(self.batch, "n") as n:
            if self.lstm.lengths is None:
                add(h, lambda j: hidden[d, n, j])
            else:
                with b.when(s <= self.lstm.length(n, self.steps)):
                    add(h, lambda j: hidden[d, n, j])
        scale, whole = scale_of(b, b.let(least(), "least"), b.let(most(), "most"))
        zero = b.let(whole.astype(I32), "point")
        with b.serial(self.batch, "n") as n:
            for at, count in pieces(b, h, self.lanes):
                with b.vector(count) as v:
                    value = hidden[d, n, at + v] / scale
                    b.store(out, (d, n, at + v), requantize(value, zero.astype("uint8"), "uint8"))
        return scale, zero

    def _step(self, b: Builder, d: Scalar, n: Scalar, t: Scalar, scale: Scalar, zero: Scalar) -> None:
        lstm, h = self.lstm, self.lstm.hidden
        hidden, cell, row = (b.arg(leaf) for leaf in (*self.state, self.bytes))
        given, share = b.arg(self.gates), b.arg(self.share)

        def finish(column: Index, value: Scalar) -> None:
            b.store(share, (d, column), given[t, n, d * (4 * h) + column] + value * (scale * lstm.r.step(d, column)))

        self.product.row(b, d, lambda k: row[d, n, k], word_reader(row, d, n), zero, finish)
        y = b.arg(self.results[0]) if self.wanted[0] else None

        def gate(which: int, peephole: int | None, before: Scalar, j: Index) -> Scalar:
            value = share[d, which * h + j]
            if lstm.peep is not None and peephole is not None:
                value = value + lstm.peep(d, peephole * h + j) * before
            if lstm.bias is not None:
                value = value + (lstm.bias(d, which * h + j) + lstm.bias(d, (4 + which) * h + j))
            return value

        for at, count in pieces(b, h, self.lanes):
            with b.vector(count) as v:
                j = at + v
                before = b.keep(cell[d, n, j])
                i = b.keep(lstm.act(0, d, gate(0, 0, before, j)))
                f = as_expr(1.0, F32) - i if lstm.coupled else b.keep(lstm.act(0, d, gate(2, 2, before, j)))
                c = b.keep(f * before + i * b.keep(lstm.act(1, d, gate(3, None, before, j))))
                o = b.keep(lstm.act(0, d, gate(1, 1, c, j)))
                new = b.keep(o * lstm.act(2, d, c))
                b.store(cell, (d, n, j), c)
                b.store(hidden, (d, n, j), new)
                if y is not None:
                    b.store(y, (t, d, n, j), new)

    def _time(self, d: Scalar, s: Scalar, length: Scalar) -> Scalar:
        back = length - 1 - s
        if len(self.lstm.reverse) == 1:
            return back if self.lstm.reverse[0] else s
        return fn.select(tirx.EQ(d, as_expr(0, I64)), s, back)

    def _finish(self, b: Builder, d: Scalar) -> None:
        """Zeros after a sequence's end; the last states (zeros for an empty sequence)."""
        lstm, h = self.lstm, self.lstm.hidden
        with b.serial(self.batch, "n") as n:
            length = lstm.length(n, self.steps)
            if self.wanted[0] and lstm.lengths is not None:
                with b.serial(as_expr(self.steps, I64) - length, "s") as s, b.serial(h, "j") as j:
                    b.store(b.arg(self.results[0]), (length + s, d, n, j), as_expr(0.0, F32))
            for k, state in enumerate(self.state):
                if self.wanted[k + 1]:
                    with b.serial(h, "j") as j:
                        last = b.arg(state)[d, n, j]
                        last = last if lstm.lengths is None else fn.select(length > 0, last, as_expr(0.0, F32))
                        b.store(b.arg(self.results[k + 1]), (d, n, j), last)
