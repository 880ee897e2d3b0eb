"""Transposed convolution over NHWC, as one stride-1 convolution for every phase of the output.

The outputs at positions = rho modulo the stride depend on the same kernel taps, and on the input through a convolution
with stride 1: along one axis, output stride*q + rho reads input q + (rho + pad - k*dilation) / stride for each k that
makes this whole. So no multiply-add is wasted on inserted zeros and no output is written twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from targets.target import Target

from .conv2d import merged_groups
from .conv2d_direct import direct, packed_weights, pick_tile
from .conv2d_shape import ConvShape
from .registry import Call, template
from .stage import Stage
from .tensor import Tensor

MAX_PHASES = 64  # kernels for one operator


@dataclass(frozen=True)
class Phase:
    """One axis of a phase: its first output, how many, and the convolution it is."""

    start: int
    count: int
    taps: tuple[int, ...]  # kernel positions, in the order of the input they read
    pad: int  # may be negative
    dilation: int


def phases(size: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Phase]:
    """The phases of an axis with `size` outputs; `taps` is empty where no input contributes."""
    found = []
    for start in range(min(stride, size)):
        taps = [k for k in reversed(range(kernel)) if (start + pad - k * dilation) % stride == 0]
        offsets = [(start + pad - k * dilation) // stride for k in taps]
        step = offsets[1] - offsets[0] if len(taps) > 1 else 1
        count = -(-(size - start) // stride)
        found.append(Phase(start, count, tuple(taps), -offsets[0] if taps else 0, step))
    return found


@template("edgert.ConvTranspose2d")
def conv_transpose(call: Call, target: Target) -> list[Stage] | None:
    """X [N, H, W, C], constant W [C, O/group, kH, kW] -> [N, OH, OW, O], float32. Spatial sizes must be static."""
    x, w = call.inputs[0], call.inputs[1]
    if x is None or w is None or w.data is None or x.dtype != "float32" or w.dtype != "float32":
        return None
    out = call.outputs[0].shape
    sizes = (*x.shape[1:], *out[1:])
    if not all(isinstance(size, int) and size > 0 for size in sizes) or x.shape[0] == 0 or 0 in w.shape:
        return None
    a = call.attrs
    strides, dilations = a.get("strides") or (1, 1), a.get("dilations") or (1, 1)
    top, left, *_ = a.get("pads") or (0, 0, 0, 0)
    kernel = [int(k) for k in w.shape[2:]]
    rows = phases(int(out[1]), kernel[0], strides[0], top, dilations[0])
    columns = phases(int(out[2]), kernel[1], strides[1], left, dilations[1])
    if len(rows) * len(columns) > MAX_PHASES:
        return None
    group = int(a.get("group", 1))
    return [_stage(call, x, w, r, c, (strides[0], strides[1]), group, target) for r in rows for c in columns]


def _stage(
    call: Call, x: Tensor, w: Tensor, row: Phase, column: Phase, strides: tuple[int, int], group: int, target: Target
) -> Stage:
    batch, height, width, channels = x.shape
    taps = (max(1, len(row.taps)), max(1, len(column.taps)))
    s = ConvShape(
        batch, int(height), int(width), int(channels), row.count, column.count, int(call.outputs[0].shape[3]), taps,
        (1, 1), (row.pad, column.pad, _after(row, taps[0], int(height)), _after(column, taps[1], int(width))),
        (row.dilation, column.dilation), group,
    )  # fmt: skip
    s, weights = merged_groups(s, _phase_weights(w, s, row, column), target.lanes("float32"))
    tile = pick_tile(call, s, target)
    put = (strides[0], row.start), (strides[1], column.start)
    return direct(call, x, packed_weights(weights, s, tile.cols), s, tile, target, "conv_transpose", put)


def _after(phase: Phase, taps: int, size: int) -> int:
    """How far the last output reads beyond the input; negative when it stays inside."""
    return phase.count - 1 + (taps - 1) * phase.dilation + 1 - phase.pad - size


def _phase_weights(w: Tensor, s: ConvShape, row: Phase, column: Phase) -> Tensor:
    """[C, O/g, kH, kW] -> [O, C/g, taps, taps]: the taps of a phase; zeros for a phase without."""
    shape = (s.out_channels, s.group_in, *s.kernel)

    def data() -> np.ndarray:
        given = np.asarray(w.data())  # type: ignore[misc]
        if not row.taps or not column.taps:
            return np.zeros(shape, given.dtype)
        part = given[:, :, list(row.taps)][:, :, :, list(column.taps)]
        grouped = part.reshape(s.group, s.group_in, s.group_out, *s.kernel)
        return np.ascontiguousarray(grouped.transpose(0, 2, 1, 3, 4)).reshape(shape)

    return Tensor(shape, w.dtype, f"{w.name}_phase{row.start}.{column.start}of{row.taps}{column.taps}", data=data)
