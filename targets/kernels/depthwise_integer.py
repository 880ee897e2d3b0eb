"""Depthwise convolution of bytes over NHWC, summed in int32: the kernel that suits the target and the channels."""

from __future__ import annotations

from targets.target import Target

from .conv2d_shape import ConvShape
from .depthwise_quads import QuadKernel, fits
from .depthwise_widened import WidenedKernel
from .registry import Call
from .stage import Stage
from .tensor import Tensor


def depthwise_integer(
    call: Call, x: Tensor, w: Tensor, zero: Tensor, s: ConvShape, target: Target
) -> list[Stage] | None:
    """X [N, H, W, C] uint8 or int8, W int8 [C, 1, kH, kW] constant; taps outside the image read `zero` (a byte)."""
    if fits(s, target, call.config):
        return [QuadKernel(call, x, w, zero, s, target).stage()]
    return [WidenedKernel(call, x, w, zero, s, target).stage()]
