"""Depthwise 3 x 3 convolution of int8 on Cortex-M by one function for all shapes (targets/firmware/depthwise_dsp.c).

A channel at a time is widened into lines of 16-bit numbers with pads around; SMLAD multiplies two neighbours of a line,
and four numbers that are read at once serve two outputs. Lines run along the image's rows or columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from targets.target import Target

from .builder import Builder
from .conv2d_shape import ConvShape, conv_shape
from .dsp_calls import SHARED, Tail, emit_call, tail_of, words
from .registry import Call, template
from .slides import let_slide
from .stage import Stage, Temp

FUNCTION = "edgert_dsp_depthwise"


@dataclass(frozen=True)
class Along:
    """One axis of a convolution: size of the image, pad before it, outputs."""

    size: int
    pad: int
    outputs: int


def axes(s: ConvShape, turned: bool) -> tuple[Along, Along]:
    """The axis across lines and that along them: rows and columns, or the other way round."""
    found = Along(s.height, s.pads[0], s.out_height), Along(s.width, s.pads[1], s.out_width)
    return found[::-1] if turned else found


@template("edgert.Conv2dInteger", family="mcu")
def depthwise_dsp(call: Call, target: Target) -> list[Stage] | None:
    """X [1, H, W, C] int8, W int8 [C, 1, 3, 3] constant -> int8; taps outside the image read input 2 (a byte)."""
    s, x, w, zero = conv_shape(call), call.need(0), call.need(1), call.need(2)
    if not call.config.get(SHARED, 1) or s is None or not s.is_depthwise or s.batch != 1:
        return None
    if s.kernel != (3, 3) or s.strides not in ((1, 1), (2, 2)) or s.dilations != (1, 1):
        return None
    if x.dtype != "int8" or w.dtype != "int8" or w.data is None or zero.data is None:
        return None
    data = np.asarray(w.data()).reshape(s.channels, 3, 3)
    found = tail_of(call, data, target)
    if found is None:
        return None
    tail, data = found
    turned = bool(call.config.get("turned", cost(s, True) < cost(s, False)))
    pad = int(np.asarray(zero.data()).reshape(-1)[0])
    b = Builder(f"depthwise3x3_nhwc_s8s8_dsp{'_turned' * turned}_{target.isa}")
    shape, plane = _shape(s, tail, pad, turned)
    packed = words(f"{w.name}_packed", pack(data.transpose(0, 2, 1) if turned else data, tail))
    with b:
        emit_call(b, FUNCTION, [x, packed, call.result, plane, words("shape", shape)])
    # whole channels are read before any result of them is written, which lies where that channel's inputs lay
    pieces = [(0, 0)] if s.out_height * s.out_width <= s.height * s.width else []
    stage = b.stage()
    return [let_slide(stage, x, call.result, pieces, target) if pieces else stage]


def cost(s: ConvShape, turned: bool) -> int:
    """Pairs of outputs."""
    across, along = axes(s, turned)
    return across.outputs * -(-along.outputs // 2)


def pack(weights: np.ndarray, tail: Tail) -> np.ndarray:
    """int8 [C, 3, 3] -> int32 [C, 6]: bytes 0, 1, 1, 2 of each line, what sums start from (twice), the multiplier."""
    lines = np.ascontiguousarray(weights[:, :, [0, 1, 1, 2]]).view(np.int32)[:, :, 0]
    return np.concatenate([lines, tail.bias[:, None], tail.bias[:, None], tail.multiplier.view(np.int32)[:, None]], 1)


def _shape(s: ConvShape, tail: Tail, pad: int, turned: bool) -> tuple[np.ndarray, Temp]:
    """The numbers that depthwise_dsp.c takes, and the plane."""
    (across, along), stride = axes(s, turned), s.strides[0]
    line = stride * (along.outputs + along.outputs % 2) + 2  # pairs of outputs read so far, an even number
    lines = stride * (across.outputs - 1) + 3
    steps = [s.width * s.channels, s.channels]  # of the image, across and along
    out_steps = [s.out_width * s.channels, s.channels]
    if turned:
        steps.reverse()
        out_steps.reverse()
    words_ = lines * line // 2
    both = int(np.array([pad, pad], np.int16).view(np.int32)[0])
    read = min(along.size, line - along.pad)
    shape = [tail.magic, out_steps[1], along.outputs, across.outputs, out_steps[0], stride * line * 2, line * 2,
             s.channels, stride, across.pad * line + along.pad, words_, both,
             min(across.size, lines - across.pad), read, steps[1], steps[0] - read * steps[1],
             2 * (line - read)]  # fmt: skip
    return np.array(shape), Temp((words_,), "int32", "plane")
