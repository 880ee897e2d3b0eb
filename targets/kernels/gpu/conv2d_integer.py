"""Convolutions of bytes over NHWC, summed in int32: four input channels at a time, or channel by channel."""

from __future__ import annotations

from functools import partial

from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from ..conv2d_shape import ConvShape, conv_shape
from ..depthwise_widened import tap_sums
from ..registry import Call, template
from ..stage import Const, Stage
from ..tensor import Index, Tensor
from .conv2d import Conv
from .words import ByteSums, takes_bytes, word_const

ONES = 0x01010101


@template("edgert.Conv2dInteger", "gpu")
def conv2d_integer(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C] bytes * constant W int8 [O, C/group, kH, kW]; input 2: what pads hold. One group, or depthwise."""
    s, x, w, zero = conv_shape(call), call.need(0), call.need(1), call.need(2)
    assert isinstance(target, Gpu)
    if s is None or not takes_bytes(x, w, target) or not (s.group == 1 or s.is_depthwise):
        return None
    return [(_Depthwise if s.is_depthwise else _Conv)(call, s, x, w, zero, target).stage()]


class _Integer(Conv):
    """What both have: sums in int32, and the byte that stands in pads."""

    dtype = "int32"

    def __init__(self, call: Call, s: ConvShape, x: Tensor, w: Tensor, zero: Tensor, target: Gpu) -> None:
        super().__init__(call, s, x, w, target)
        self.border = self.b.arg(zero)[(0,) * max(1, zero.ndim)]


class _Conv(_Integer):
    """One group."""

    def _packed(self, w: Tensor, target: Gpu) -> Const:
        shape = (*self.s.kernel, self.s.channels, self.wide)
        return word_const(shape, partial(self._padded, w), f"{w.name}.gpu.words.{self.wide}", w.name)

    def start(self) -> None:
        """The sums of a work item, and the word that stands in pads."""
        self.sums = ByteSums(self.b, self.tile, self.x.dtype, self.s.channels)
        self.outside = self.b.let(self.border.astype("uint8").astype("uint32") * tirx.const(ONES, "uint32"))

    def products(self, ky: Index, kx: Index, y: tirx.Expr, pixels: list, tests: list[tirx.Expr | None]) -> None:
        """Adds what one position of the kernel contributes."""
        b = self.b
        self.sums.add(
            [partial(b.load, self.image, self.n, y, at) for at, _ in pixels],
            lambda quad: self.tile.vector(lambda v: b.load(self.taps, ky, kx, quad, self.first + v), True),
            tests, self.outside,
        )  # fmt: skip


class _Depthwise(_Integer):
    """Each channel by itself. zero * sum(w) plus the sum over taps inside the image of (x - zero) * w."""

    def __init__(self, call: Call, s: ConvShape, x: Tensor, w: Tensor, zero: Tensor, target: Gpu) -> None:
        super().__init__(call, s, x, w, zero, target)
        self.first_sums = self.b.arg(tap_sums(w, s.channels, target.vector))

    def _packed(self, w: Tensor, target: Gpu) -> Const:
        shape = (*self.s.kernel, 1, self.wide)
        return Const(shape, "int8", partial(self._padded, w), f"{w.name}.gpu.bytes.{self.wide}", w.name)

    def start(self) -> None:
        """What all taps outside would sum to."""
        b, tile = self.b, self.tile
        self.outside = b.let(self.border.astype("int32"))
        held = tile.vector(lambda v: b.load(self.first_sums, self.first + v), True)
        for r in range(tile.rows):
            with b.vector(tile.cols) as v:
                b.store(tile.sums, r * tile.cols + v, held[v] * self.outside)

    def multiplied(self, r: int, left: tirx.Var, right: tirx.Var) -> None:
        """Adds a vector of channels of one pixel."""
        b, tile = self.b, self.tile
        with b.vector(tile.cols) as v:
            at = r * tile.cols + v
            moved = left[v].astype("int32") - self.outside
            b.store(tile.sums, at, tile.sums[at] + moved * right[v].astype("int32"))
