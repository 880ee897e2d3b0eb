"""Depthwise convolution of bytes, each widened to int32: for any target and any number of channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from targets.target import Target

from .conv2d_shape import ConvShape
from .depthwise import _Kernel
from .registry import Call
from .stage import Const
from .tensor import Tensor


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

    dtype = "int32"

    def __init__(self, call: Call, x: Tensor, w: Tensor, zero: Tensor, s: ConvShape, target: Target) -> None:
        super().__init__(call, x, w, s, target)
        b = self.b
        types = "s8s8" if x.dtype == "int8" else "u8s8"
        b.kernel = f"depthwise{s.kernel[0]}x{s.kernel[1]}_nhwc_{types}_widened_{target.isa}"
        self.sums = b.arg(tap_sums(w, s.channels, self.lanes))
        self.zero = b.arg(zero)[(0,) * max(1, zero.ndim)].astype("int32")
        image, taps = self.image, self.taps
        # 16 bits hold a difference of bytes, and 64-bit Arm multiplies those into 32 bits at once
        short = "int16" if target.dot == "smull" else "int32"
        self.image = _Reader(lambda at: (image[at].astype(short) - self.zero.astype(short)).astype("int32"))
        self.taps = _Reader(lambda at: taps[at].astype(short).astype("int32"))

    def start(self, channel: tirx.Expr) -> tirx.Expr:
        """zero times the sum of the weights."""
        return self.zero * self.sums[channel]
