"""The kernels of DynamicQuantizeLSTM: quantize the inputs, multiply them with W at once, then a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Index, Scalar, Tensor, as_expr
from targets.target import Target

from . import mathfn as fn
from .quantize import requantize

if TYPE_CHECKING:
    from .contrib_lstm import Lstm, Weights

F32, I32, I64 = "float32", "int32", "int64"
BLOCK = 4  # vectors of sums held at a time: enough to hide the latency of a multiply-add


class Kernel:
    """The stages: the input's range; the input's share of the gates; the steps."""

    def __init__(self, lstm: Lstm, results: list[Tensor], wanted: list[bool], target: Target) -> None:
        self.lstm, self.results, self.wanted = lstm, results, wanted
        self.lanes = target.lanes(F32)
        self.steps, self.batch, self.depth = lstm.x.shape
        self.directions, self.columns = len(lstm.reverse), 4 * lstm.hidden
        d, h = self.directions, lstm.hidden
        self.range = Temp((2,), F32, "x_scale")  # scale, zero point
        self.whole = Temp((self.steps, self.batch, self.depth), I32, "x_centred")
        self.gates = Temp((d, self.steps, self.batch, self.columns), F32, "gates")
        self.state = [Temp((d, self.batch, h), F32, name) for name in ("hidden", "cell")]
        self.bytes = Temp((d, self.batch, h), I32, "h_centred")
        self.share = Temp((d, self.columns), F32, "step_gates")

    def stages(self) -> list[Stage]:
        """In the order they run."""
        return [self._measure(), self._centre(), self._project(), self._recur()]

    def _longest(self, b: Builder) -> Scalar:
        steps = as_expr(self.steps, I64)
        if self.lstm.lengths is None:
            return steps
        most = b.local((1,), I64)
        b.store(most, 0, as_expr(0, I64))
        with b.serial(self.batch, "n") as n:
            b.store(most, 0, tirx.max(most[0], tirx.min(self.lstm.lengths(n).astype(I64), steps)))
        return b.let(most[0], "longest")

    def _scale_of(self, b: Builder, least: Scalar, most: Scalar) -> tuple[Scalar, Scalar]:
        """Scale and zero point (a whole float32) of uint8 over [least, most], which includes 0."""
        one, steps = as_expr(1.0, F32), as_expr(255.0, F32)
        scale = b.let(fn.select(tirx.EQ(most, least), one, (most - least) / steps), "scale")
        return scale, b.let(requantize(as_expr(0.0, F32) - least / scale, None, "uint8").astype(F32), "zero")

    def _measure(self) -> Stage:
        b = Builder("dynamic_lstm_range")
        with b, b.parallel(1):
            least, most = b.local((self.lanes,), F32), b.local((self.lanes,), F32)
            for held in (least, most):
                with b.vector(self.lanes) as v:
                    b.store(held, v, as_expr(0.0, F32))
            with b.serial(self._longest(b), "t") as t, b.serial(self.batch, "n") as n:
                for at, count in _columns(b, self.depth, self.lanes):
                    with b.vector(count) as v:
                        value = self.lstm.x(t, n, at + v)
                        b.store(least, v, tirx.min(least[v], value))
                        b.store(most, v, tirx.max(most[v], value))
            with b.serial(self.lanes, "v") as v:
                b.store(least, 0, tirx.min(least[0], least[v]))
                b.store(most, 0, tirx.max(most[0], most[v]))
            scale, zero = self._scale_of(b, least[0], most[0])
            b.store(b.arg(self.range), 0, scale)
            b.store(b.arg(self.range), 1, zero)
        return b.stage()

    def _centre(self) -> Stage:
        b = Builder("dynamic_lstm_quantize")
        with b, b.parallel(as_expr(self.steps, I64), 8) as t, b.serial(self.batch, "n") as n:
            held, out = b.arg(self.range), b.arg(self.whole)
            zero = b.let(held[1].astype(I32), "zero")
            for at, count in _columns(b, self.depth, self.lanes):
                with b.vector(count) as v:
                    value = requantize(self.lstm.x(t, n, at + v) / held[0], zero.astype("uint8"), "uint8")
                    b.store(out, (t, n, at + v), value.astype(I32) - zero)
        return b.stage()

    def _product(
        self, b: Builder, weights: Weights, d: Scalar, read: Callable[[Scalar], Scalar], finish: Callable
    ) -> None:
        """Sums over k of read(k) * (weights - zero point) for every column; `finish(column, sum)` stores one."""
        zero = b.let(weights.offset(d), "offset")
        depth = int(weights.data.shape[1])
        total = b.local((1,), I32)
        b.store(total, 0, as_expr(0, I32))
        with b.serial(depth, "k") as k:
            b.store(total, 0, total[0] + read(k))
        # sum a (w - z) = sum a w - z sum a: the second is the same for every column
        shift = b.let(zero * total[0], "shift")
        for at, count in _columns(b, self.columns, BLOCK * self.lanes, self.lanes):
            sums = b.local((count,), I32)
            lanes = self.lanes if count % self.lanes == 0 else 1
            with b.unroll(count // lanes) as u, b.vector(lanes) as v:
                b.store(sums, u * lanes + v, as_expr(0, I32))
            with b.serial(depth, "k") as k:
                value = b.let(read(k), "value")
                with b.unroll(count // lanes) as u, b.vector(lanes) as v:
                    place = u * lanes + v
                    b.store(sums, place, sums[place] + value * weights.value(d, k, at + place))
            with b.unroll(count // lanes) as u, b.vector(lanes) as v:
                place = u * lanes + v
                finish(at + place, (sums[place] - shift).astype(F32))

    def _project(self) -> Stage:
        lstm = self.lstm
        b = Builder(f"dynamic_lstm_input_h{lstm.hidden}")
        rows = as_expr(self.steps, I64) * as_expr(self.batch, I64)
        with b, b.parallel(rows * self.directions) as p:
            x, held, out = b.arg(self.whole), b.arg(self.range), b.arg(self.gates)
            d, row = b.let(tirx.floordiv(p, rows), "d"), b.let(tirx.floormod(p, rows), "row")
            t = b.let(tirx.floordiv(row, as_expr(self.batch, I64)), "t")
            n = b.let(tirx.floormod(row, as_expr(self.batch, I64)), "n")

            def finish(column: Index, value: Scalar) -> None:
                b.store(out, (d, t, n, column), value * (held[0] * lstm.w.step(d, column)))

            self._product(b, lstm.w, d, lambda k: x[t, n, k], finish)
        return b.stage()

    # ---- the steps ------------------------------------------------------------------------------------------------
    def _recur(self) -> Stage:
        lstm, h = self.lstm, self.lstm.hidden
        b = Builder(f"dynamic_lstm_steps_h{h}")
        with b, b.parallel(self.directions) as d:
            hidden, cell = (b.arg(s) for s in self.state)
            with b.serial(self.batch, "n") as n, b.serial(h, "j") as j:
                for buffer, start in ((hidden, lstm.h0), (cell, lstm.c0)):
                    b.store(buffer, (d, n, j), as_expr(0.0, F32) if start is None else start(d, n, j))
            with b.serial(self._longest(b), "s") as s:
                scale = self._quantize_state(b, d, s.astype(I64))
                with b.serial(self.batch, "n") as n:
                    length = self._length(n)
                    with b.when(s.astype(I64) < length):
                        self._step(b, d, n, s.astype(I64), length, scale)
            self._finish(b, d)
        return b.stage()

    def _length(self, n: Index) -> Scalar:
        steps = as_expr(self.steps, I64)
        if self.lstm.lengths is None:
            return steps
        return tirx.max(tirx.min(self.lstm.lengths(n).astype(I64), steps), as_expr(0, I64))

    def _quantize_state(self, b: Builder, d: Scalar, s: Scalar) -> Scalar:
        """Writes the centred bytes of direction `d`'s hidden states before step s; gives their scale.

        A sequence that ended before the last step counts as 0 in the range, as ONNX Runtime has it.
        """
        hidden, out, h = b.arg(self.state[0]), b.arg(self.bytes), self.lstm.hidden
        least, most = b.local((1,), F32), b.local((1,), F32)
        b.store(least, 0, as_expr(0.0, F32))
        b.store(most, 0, as_expr(0.0, F32))
        with b.serial(self.batch, "n") as n, b.when(s <= self._length(n)), b.serial(h, "j") as j:
            b.store(least, 0, tirx.min(least[0], hidden[d, n, j]))
            b.store(most, 0, tirx.max(most[0], hidden[d, n, j]))
        scale, zero = self._scale_of(b, least[0], most[0])
        point = b.let(zero.astype(I32), "point")
        with b.serial(self.batch, "n") as n:
            for at, count in _columns(b, h, self.lanes):
                with b.vector(count) as v:
                    value = requantize(hidden[d, n, at + v] / scale, point.astype("uint8"), "uint8")
                    b.store(out, (d, n, at + v), value.astype(I32) - point)
        return scale

    def _step(self, b: Builder, d: Scalar, n: Scalar, s: Scalar, length: Scalar, scale: Scalar) -> None:
        lstm, h = self.lstm, self.lstm.hidden
        hidden, cell, bytes_ = (b.arg(t) for t in (*self.state, self.bytes))
        given, share = b.arg(self.gates), b.arg(self.share)
        t = b.let(self._time(d, s, length), "t")

        def finish(column: Index, value: Scalar) -> None:
            b.store(share, (d, column), given[d, t, n, column] + value * (scale * lstm.r.step(d, column)))

        self._product(b, lstm.r, d, lambda k: bytes_[d, n, k], finish)
        y = b.arg(self.results[0]) if self.wanted[0] else None

        def gate(row: int, peephole: int | None, before: Scalar, j: Index) -> Scalar:
            value = share[d, row * h + j]
            if lstm.peep is not None and peephole is not None:
                value = value + lstm.peep(d, peephole * h + j) * before
            if lstm.bias is not None:
                value = value + (lstm.bias(d, row * h + j) + lstm.bias(d, (4 + row) * h + j))
            return value

        def hold(value: Scalar) -> Scalar:
            held = b.local((1,), F32)
            b.store(held, 0, value)
            return held[0]

        with b.serial(h, "j") as j:
            before = hold(cell[d, n, j])
            i = hold(lstm.act(0, d, gate(0, 0, before, j)))
            f = as_expr(1.0, F32) - i if lstm.coupled else hold(lstm.act(0, d, gate(2, 2, before, j)))
            c = hold(f * before + i * hold(lstm.act(1, d, gate(3, None, before, j))))
            o = hold(lstm.act(0, d, gate(1, 1, c, j)))
            new = hold(o * lstm.act(2, d, c))
            b.store(cell, (d, n, j), c)
            b.store(hidden, (d, n, j), new)
            if y is not None:
                b.store(y, (t, d, n, j), new)

    def _time(self, d: Scalar, s: Scalar, length: Scalar) -> Scalar:
        back = length - 1 - s
        if len(self.lstm.reverse) == 1:
            return back if self.lstm.reverse[0] else s
        return tirx.if_then_else(tirx.EQ(d, as_expr(0, I64)), s, back)

    def _finish(self, b: Builder, d: Scalar) -> None:
        """Zeros after a sequence's end; the last states (zeros for an empty sequence)."""
        h, steps = self.lstm.hidden, as_expr(self.steps, I64)
        with b.serial(self.batch, "n") as n:
            length = self._length(n)
            if self.wanted[0] and self.lstm.lengths is not None:
                with b.serial(steps - length, "s") as s, b.serial(h, "j") as j:
                    b.store(b.arg(self.results[0]), (length + s, d, n, j), as_expr(0.0, F32))
            for k, state in enumerate(self.state):
                if self.wanted[k + 1]:
                    with b.serial(h, "j") as j:
                        last = b.arg(state)[d, n, j]
                        last = last if self.lstm.lengths is None else fn.select(length > 0, last, as_expr(0.0, F32))
                        b.store(b.arg(self.results[k + 1]), (d, n, j), last)


def _columns(b: Builder, extent: int, *sizes: int) -> Iterator[tuple[Index, int]]:
    """Loops over [0, extent) in pieces of `sizes`, largest first, then one by one: (where it starts, its size)."""
    done = 0
    for size in (*sizes, 1):
        count = (extent - done) // size
        if count:
            with b.serial(count, "c") as c:
                yield done + c * size, size
        done += count * size
