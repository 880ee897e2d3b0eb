"""Depthwise convolution of bytes, each widened to int32: for any target and any number of channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from .conv2d_shape import ConvShape, kernel_rows
from .depthwise import _Kernel
from .registry import Call
from .stage import Const
from .tensor import Index, Tensor


def tap_sums(w: Tensor, channels: int, lanes: int) -> Const:
    """The sum of each channel's weights, int32 [ceil(C / lanes) * lanes], zero-padded."""
    size = -(-channels // lanes) * lanes

    def make() -> np.ndarray:
        sums = np.asarray(w.data()).reshape(channels, -1).astype(np.int32).sum(1)  # type: ignore[misc]
        return np.pad(sums.astype(np.int32), (0, size - channels))

    return Const((size,), "int32", make, f"{w.name}:tap_sums:{lanes}", f"{w.name}_sums")


class _Reader:
    """What `read` gives, in the notation of a buffer."""

    def __init__(self, read: Callable[[tuple], tirx.Expr]) -> None:
        self.read = read

    def __getitem__(self, at: tuple) -> tirx.Expr:
        return self.read(at)


class WidenedKernel(_Kernel):
    """The float template's walk. A tap outside the image reads `zero`, and sum(x * w) over all taps is
    zero * sum(w) plus the sum over those inside of (x - zero) * w: so taps outside cost nothing.
    """

    def __init__(self, call: Call, x: Tensor, w: Tensor, zero: Tensor, s: ConvShape, target: Target) -> None:
        super().__init__(call, x, w, s, target)
        b = self.b
        types = "s8s8" if x.dtype == "int8" else "u8s8"
        b.kernel = f"depthwise{s.kernel[0]}x{s.kernel[1]}_nhwc_{types}_widened_{target.isa}"
        self.sums = b.arg(tap_sums(w, s.channels, self.lanes))
        self.zero = b.arg(zero)[(0,) * max(1, zero.ndim)].astype("int32")
        image, taps = self.image, self.taps
        self.image = _Reader(lambda at: image[at].astype("int32") - self.zero)
        self.taps = _Reader(lambda at: taps[at].astype("int32"))

    def pixels(self, place: tuple, first: Index, count: int, piece: tuple) -> None:
        """One tile: zero * sum(w), every kernel row inside the image added, stored through the fused tail."""
        b, s, (n, oh), (block, offset, width) = self.b, self.s, place, piece
        sh, dh, top = s.strides[0], s.dilations[0], s.pads[0]
        acc = b.local((count, width), "int32")
        with b.unroll(count) as i, b.vector(width) as v:
            b.store(acc, (i, v), self.zero * self.sums[block * self.lanes + offset + v])
        low, extent = kernel_rows(b, s, oh)
        with b.serial(extent, "kh", low) as tap:
            self.tap_row(acc, (b.let(n * s.height + oh * sh + (tap * dh - top)), tap), first, count, piece)
        with b.unroll(count) as i, b.vector(width) as v:
            at = (n, oh, first + i, block * self.lanes + offset + v)
            b.bind(self.call.outputs[0], lambda *_: acc[i, v])
            b.share(at, self.call.result.shape)
            b.store(self.out, at, self.call.final(*at))
