"""Convolutions over NHWC: a work item computes a few neighbouring pixels of one vector of output channels."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from ..conv2d_shape import ConvShape, conv_shape
from ..loops import ceil_div
from ..registry import Call, template
from ..stage import Const, Stage
from ..tensor import Index, Tensor, as_expr, product
from .grid import Grid, place_of
from .tile import Tile, kept, packed, rows_of


@template("edgert.Conv2d", "gpu")
def conv2d(call: Call, target: Target) -> list[Stage] | None:
    """One group, or depthwise; float32, constant weights [O, C/group, kH, kW]. Other groups are left to the nest."""
    s, x, w = conv_shape(call), call.need(0), call.need(1)
    assert isinstance(target, Gpu)
    if s is None or {x.dtype, w.dtype} != {"float32"} or not (s.group == 1 or s.is_depthwise):
        return None
    return [Conv(call, s, x, w, target).stage()]


class Conv:
    """One convolution under construction, of floats; conv2d_integer.py has those of bytes."""

    dtype = "float32"  # of the sums

    def __init__(self, call: Call, s: ConvShape, x: Tensor, w: Tensor, target: Gpu) -> None:
        self.call, self.s, self.x, self.width = call, s, x, target.vector
        self.height = rows_of(s.out_width, target)
        self.wide = -(-s.out_channels // self.width) * self.width
        self.b = Grid(f"{'depthwise' if s.is_depthwise else 'conv2d'}_{x.dtype}_{self.height}x{self.width}", target)
        self.weights = self._packed(w, target)

    def _packed(self, w: Tensor, target: Gpu) -> Const:
        """The weights as the kernel reads them."""
        shape = (*self.s.kernel, self.s.group_in, self.wide)
        return packed(target, shape, partial(self._padded, w), f"{w.name}.gpu.{self.wide}", w.name)

    def _padded(self, w: Tensor) -> np.ndarray:
        """[O, C/group, kH, kW] -> [kH, kW, C/group, O], padded to whole vectors of output channels."""
        data = np.asarray(w.data()).transpose(2, 3, 1, 0)  # type: ignore[misc]
        return np.pad(data, ((0, 0), (0, 0), (0, 0), (0, self.wide - self.s.out_channels)))

    def start(self) -> None:
        """What precedes the sums of a work item."""

    def stage(self) -> Stage:
        """The kernel."""
        b, s, call = self.b, self.s, self.call
        grid = [s.batch, s.out_height, ceil_div(s.out_width, self.height), ceil_div(s.out_channels, self.width)]
        with b:
            self.image, self.taps = b.arg(self.x), b.arg(self.weights)
            with b.items(product(grid)) as item:
                self.n, oh, part, across = place_of(item, grid)
                self.first = b.let(across * self.width)
                self.tile = Tile(b, self.height, self.width, self.dtype)
                self.start()
                columns, stored = kept(b, b.let(part * self.height), self.height, s.out_width)
                tops = b.let(oh * s.strides[0] - s.pads[0])
                lefts = [b.let(ow * s.strides[1] - s.pads[1]) for ow in columns]
                with b.serial(s.kernel[0], "ky") as ky, b.serial(s.kernel[1], "kx") as kx:
                    y, row_in = self.inside(tops + ky * s.dilations[0], s.height, s.pads[0] + s.pads[2])
                    pixels = [self.inside(at + kx * s.dilations[1], s.width, s.pads[1] + s.pads[3]) for at in lefts]
                    self.tap(ky, kx, y, row_in, pixels)
                even = s.out_channels % self.width == 0
                self.tile.finish(
                    call, lambda r, c: (self.n, oh, columns[r], self.first + c), stored,
                    None if even else lambda c: self.first + c < s.out_channels,
                )  # fmt: skip
        return b.stage()

    def inside(self, at: tirx.Expr, size: int, pads: int) -> tuple[tirx.Expr, tirx.Expr | None]:
        """A position that can be read, and whether it is the wanted one (None: surely)."""
        if not pads:
            return at, None
        last = as_expr(size - 1, str(at.ty.dtype))
        held = self.b.let(tirx.max(tirx.min(at, last), as_expr(0, str(at.ty.dtype))))
        return held, tirx.EQ(held, at)

    def tap(self, ky: Index, kx: Index, y: tirx.Expr, row_in: tirx.Expr | None, pixels: list) -> None:
        """Adds what one position of the kernel contributes."""
        b, tests = self.b, [_both(row_in, column_in) for _, column_in in pixels]
        tests = [None if test is None else b.let(test) for test in tests]
        if not self.s.is_depthwise:
            self.products(ky, kx, y, pixels, tests)
            return
        row, last = self.tile.vector(lambda v: b.load(self.taps, ky, kx, 0, self.first + v), True), self.s.channels - 1
        even = self.s.channels % self.width == 0

        def pixel(r: int, v: Index) -> tirx.Expr:
            return self.read(y, pixels[r], self.first + v if even else tirx.min(self.first + v, last))

        for r, test in enumerate(tests):
            with nullcontext() if test is None else b.when(test):
                self.multiplied(r, self.tile.vector(partial(pixel, r), even), row)

    def read(self, y: tirx.Expr, pixel: tuple, channel: Index) -> tirx.Expr:
        """An element of the image."""
        return self.b.load(self.image, self.n, y, pixel[0], channel)

    def multiplied(self, r: int, left: tirx.Var, right: tirx.Var) -> None:
        """Adds a vector of channels of one pixel, of a depthwise convolution."""
        self.tile.multiply_add(r, left, right)

    def products(self, ky: Index, kx: Index, y: tirx.Expr, pixels: list, tests: list[tirx.Expr | None]) -> None:
        """Adds all channels of the pixels; where a test fails, zeros."""
        b, tile, zero = self.b, self.tile, tirx.const(0, "float32")
        with b.serial(self.s.channels, "ci") as ci:
            row = tile.vector(lambda v: b.load(self.taps, ky, kx, ci, self.first + v), True)
            for r, test in enumerate(tests):
                value = self.read(y, pixels[r], ci)
                tile.add(r, b.let(value if test is None else tirx.Select(test, value, zero)), row)


def _both(a: tirx.Expr | None, b: tirx.Expr | None) -> tirx.Expr | None:
    if a is None or b is None:
        return b if a is None else a
    return tirx.And(a, b)
