"""What DynamicQuantizeLSTM does ahead of its steps: quantizes all inputs over one range and multiplies them with W."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from targets.kernels.builder import Builder
from targets.kernels.stage import Stage, Temp
from targets.kernels.tensor import Scalar, as_expr
from targets.target import Target

from .contrib_lstm_kernel import F32, I32, I64, measured, pieces, scale_of
from .contrib_lstm_product import Product, word_reader
from .quantize import requantize

if TYPE_CHECKING:
    from .contrib_lstm import Lstm, Weights


class Inputs:
    """The stages that fill `gates` [T, N, D * 4*H] with x W^T. x [T, N, I]."""

    def __init__(self, lstm: Lstm, w: Weights, target: Target) -> None:
        self.lstm, self.x, self.w = lstm, lstm.given, w
        self.product, self.lanes = Product(w, target), target.lanes(F32)
        self.steps, self.batch, self.depth = self.x.shape
        self.range = Temp((2,), F32, "x_scale")  # scale, zero point
        self.bytes = Temp((self.steps, self.batch, self.depth), "uint8", "x_bytes")
        self.gates = Temp((self.steps, self.batch, len(lstm.reverse) * 4 * lstm.hidden), F32, "gates")

    def stages(self) -> list[Stage]:
        """In the order they run."""
        return [self._measure(), self._quantize(), self._project()]

    def _measure(self) -> Stage:
        b = Builder("dynamic_lstm_range")
        with b, b.parallel(1):
            # steps beyond the longest sequence do not count
            longest = as_expr(self.steps, I64)
            if self.lstm.lengths is not None:
                most = b.local((1,), I64)
                b.store(most, 0, as_expr(0, I64))
                with b.serial(self.batch, "n") as n:
                    b.store(most, 0, tirx.max(most[0], self.lstm.length(n, self.steps)))
                longest = b.let(most[0], "longest")
            least, largest, add = measured(b, self.lanes)
            with b.serial(longest, "t") as t, b.serial(self.batch, "n") as n:
                add(self.depth, lambda i: self.x(t, n, i))
            scale, zero = scale_of(b, b.let(least(), "least"), b.let(largest(), "most"))
            b.store(b.arg(self.range), 0, scale)
            b.store(b.arg(self.range), 1, zero)
        return b.stage()

    def _quantize(self) -> Stage:
        b = Builder("dynamic_lstm_quantize")
        with b, b.parallel(as_expr(self.steps, I64), 8) as t, b.serial(self.batch, "n") as n:
            held, out = b.arg(self.range), b.arg(self.bytes)
            zero = b.let(held[1].astype(I32), "zero")
            for at, count in pieces(b, self.depth, self.lanes):
                with b.vector(count) as v:
                    value = self.x(t, n, at + v) / held[0]
                    b.store(out, (t, n, at + v), requantize(value, zero.astype("uint8"), "uint8"))
        return b.stage()

    def _project(self) -> Stage:
        columns = 4 * self.lstm.hidden
        b = Builder(f"dynamic_lstm_input_h{self.lstm.hidden}")
        batch = as_expr(self.batch, I64)
        rows = as_expr(self.steps, I64) * batch
        with b, b.parallel(rows * len(self.lstm.reverse)) as p:
            x, held, out = b.arg(self.bytes), b.arg(self.range), b.arg(self.gates)
            d, row = b.let(tirx.floordiv(p, rows), "d"), b.let(tirx.floormod(p, rows), "row")
            t, n = b.let(tirx.floordiv(row, batch), "t"), b.let(tirx.floormod(row, batch), "n")

            def finish(column: Scalar, value: Scalar) -> None:
                b.store(out, (t, n, d * columns + column), value * (held[0] * self.w.step(d, column)))

            zero = b.let(held[1].astype(I32), "zero")
            self.product.row(b, d, lambda k: x[t, n, k], word_reader(x, t, n), zero, finish)
        return b.stage()
