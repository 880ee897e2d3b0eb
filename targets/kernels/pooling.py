"""Pooling windows in NHWC: vectors along the channels, the valid part of a window as loop bounds (no padded copy)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .loops import tasks
from .registry import Call, template
from .row_tail import COMPUTE, more_results
from .rows import cleared, fold, unrolling, widths
from .stage import Stage
from .tensor import Index, as_expr


@template("edgert.MaxPool2d")
def max_pool_2d(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C]; attrs kernel_shape, strides, pads (top, left, bottom, right), dilations. Any number type."""
    if call.need(0).dtype == "bool" or more_results(call):
        return None
    return _pool(call, target, "max")


@template("edgert.AveragePool2d")
def average_pool_2d(call: Call, target: Target) -> list[Stage] | None:
    """As MaxPool2d, and attr count_include_pad (default 0): whether padding counts as elements. Floats."""
    return _pool(call, target, "sum") if call.need(0).dtype in COMPUTE else None


class _Axis:
    """One spatial axis of a window: its first input position, taps lo..hi inside the input, how many taps count."""

    def __init__(self, b: Builder, call: Call, axis: int, at: tirx.Expr) -> None:
        attrs = call.attrs
        size = int(attrs["kernel_shape"][axis])
        self.dilation = int((attrs.get("dilations") or [1, 1])[axis])
        stride = int((attrs.get("strides") or [1, 1])[axis])
        pads = attrs.get("pads") or [0] * 4
        extent = as_expr(call.need(0).shape[1 + axis], "int64")
        self.first = b.let(as_expr(at, "int64") * stride - int(pads[axis]), "first")

        def taps_below(end: tirx.Expr) -> tirx.Expr:
            """How many taps lie before input position `end`."""
            count = tirx.floordiv(end - self.first + (self.dilation - 1), as_expr(self.dilation, "int64"))
            return tirx.max(tirx.min(count, as_expr(size, "int64")), as_expr(0, "int64"))

        self.lo = b.let(taps_below(as_expr(0, "int64")), "lo")
        self.hi = b.let(taps_below(extent), "hi")
        padded = taps_below(extent + int(pads[2 + axis]))
        self.counted = padded if attrs.get("count_include_pad") else self.hi - self.lo

    @contextmanager
    def taps(self, b: Builder) -> Iterator[tirx.Expr]:
        """The input positions of the taps inside the input."""
        with b.serial(self.hi - self.lo, "tap", self.lo) as tap:
            yield b.let(self.first + tap * self.dilation, "position")


def _pool(call: Call, target: Target, kind: str) -> list[Stage] | None:
    x = call.need(0)
    shape, channels = call.outputs[0].shape, x.shape[-1]
    if x.ndim != 4 or not isinstance(channels, int):
        return None
    dtype = COMPUTE.get(x.dtype, x.dtype) if kind == "sum" else x.dtype
    kernel = "x".join(str(k) for k in call.attrs["kernel_shape"])
    b = Builder(f"{call.op.split('.')[-1].lower()}_nhwc_{x.dtype}_{kernel}_{target.name}")
    with b:
        source, out = b.arg(x), b.arg(call.result)
        value: list[tirx.Expr] = []
        b.bind(call.outputs[0], lambda *i: value[0])
        with tasks(b, shape[:3], channels) as at:
            rows, columns = _Axis(b, call, 0, at[1]), _Axis(b, call, 1, at[2])
            count = b.let((rows.counted * columns.counted).astype(dtype), "count") if kind == "sum" else None

            def window(start: Index, unroll: int, lanes: int) -> None:
                acc = cleared(b, kind, dtype, unroll * lanes, lanes)
                with rows.taps(b) as y, columns.taps(b) as z, b.unroll(unroll) as u, b.vector(lanes) as v:
                    fold(b, kind, acc, u * lanes + v, as_expr(source[at[0], y, z, start + u * lanes + v], dtype))
                with b.unroll(unroll) as u, b.vector(lanes) as v:
                    total = acc[u * lanes + v] if count is None else acc[u * lanes + v] / count
                    value[:] = [as_expr(total, call.outputs[0].dtype)]
                    place = [*at, start + u * lanes + v]
                    b.share([as_expr(i) for i in place], shape)
                    b.store(out, place, call.final(*place))

            channel_groups(b, channels, target.lanes(dtype), window)
    return [b.stage()]


def channel_groups(b: Builder, channels: int, lanes: int, emit: Callable[[Index, int, int], None]) -> None:
    """Covers the channels with `emit(start, vectors, lanes)`: groups of several vectors, then narrower ones."""
    unroll = unrolling(channels, lanes)
    group = unroll * lanes
    with b.serial(channels // group, "c") as c:
        emit(as_expr(c) * group, unroll, lanes)
    start, rest = channels - channels % group, channels % group
    if rest >= lanes:
        emit(start, rest // lanes, lanes)
        start += rest - rest % lanes
    for width in widths(rest % lanes, lanes):
        emit(start, 1, width)
        start += width
