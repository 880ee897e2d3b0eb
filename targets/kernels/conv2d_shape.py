"""The sizes of a convolution, read from a call once."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from .builder import Builder
from .registry import Call
from .tensor import Index


@dataclass(frozen=True)
class ConvShape:
    """Sizes of a 2-D convolution over NHWC. Everything but the batch is known at compile time."""

    batch: Index
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]  # top, left, bottom, right
    dilations: tuple[int, int]
    group: int

    @property
    def group_in(self) -> int:
        """Input channels of one group."""
        return self.channels // self.group

    @property
    def group_out(self) -> int:
        """Output channels of one group."""
        return self.out_channels // self.group

    @property
    def depth(self) -> int:
        """Multiply-adds for one output element."""
        return self.kernel[0] * self.kernel[1] * self.group_in

    @property
    def is_matrix(self) -> bool:
        """A 1x1 convolution that is one matrix product."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads) and self.group == 1

    @property
    def is_depthwise(self) -> bool:
        """Every channel by itself, with one filter each."""
        return self.group == self.channels == self.out_channels > 1

    def reach(self, tap: int, first: int, count: int) -> range:
        """Which of the output pixels first..first+count-1 of a row read inside the image at kernel column `tap`."""
        return valid_outputs(tap, self.strides[1], self.dilations[1], self.pads[1], self.width, first, count)

    def border_tiles(self, pixels: int) -> tuple[list[int], range, list[int]]:
        """First pixels of the left border's tiles, the numbers of the whole inner tiles, first pixels of the others."""
        starts = list(range(0, self.out_width, pixels))
        taps = range(self.kernel[1])
        inner = [
            first + pixels <= self.out_width and all(len(self.reach(k, first, pixels)) == pixels for k in taps)
            for first in starts
        ]
        if True not in inner:
            return starts, range(0), []
        low = inner.index(True)
        high = low + inner[low:].index(False) if False in inner[low:] else len(starts)
        return starts[:low], range(low, high), starts[high:]


def conv_shape(call: Call) -> ConvShape | None:
    """The sizes of a call of edgert.Conv2d(Integer); None when they are not static or the weights are not constant."""
    x, w = call.inputs[0], call.inputs[1]
    if x is None or w is None or w.data is None:
        return None
    batch, *rest = x.shape
    _, out_height, out_width, out_channels = call.outputs[0].shape
    if not all(isinstance(s, int) for s in (*rest, out_height, out_width, out_channels)):
        return None
    if any(isinstance(size, int) and size == 0 for size in (*x.shape, *w.shape, *call.outputs[0].shape)):
        return None
    height, width, channels = rest
    a = call.attrs
    top, left, bottom, right = a.get("pads") or (0, 0, 0, 0)
    kernel, strides, dilations = w.shape[2:], a.get("strides") or (1, 1), a.get("dilations") or (1, 1)
    return ConvShape(
        batch, height, width, channels, out_height, out_width, out_channels, (int(kernel[0]), int(kernel[1])),
        (strides[0], strides[1]), (top, left, bottom, right), (dilations[0], dilations[1]), int(a.get("group", 1)),
    )  # fmt: skip


def valid_outputs(tap: int, stride: int, dilation: int, pad: int, size: int, first: int, count: int) -> range:
    """Which of the outputs first..first+count-1 (as 0..count-1) read inside [0, size) at kernel position `tap`."""
    start = tap * dilation - pad  # where output 0 reads
    low = max(0, (stride - 1 - start) // stride - first)
    high = min(count, (size - 1 - start) // stride + 1 - first)
    return range(low, max(low, high))


def kernel_rows(b: Builder, s: ConvShape, oh: tirx.Expr) -> tuple[Index, Index]:
    """The first kernel row that reads inside the image for output row `oh`, and how many do."""
    kh, top, stride, dilation = s.kernel[0], s.pads[0], s.strides[0], s.dilations[0]
    if not top and not s.pads[2]:
        return 0, kh
    low = b.let(tirx.max((top - oh * stride + (dilation - 1)) // dilation, 0))
    high = tirx.min((s.height - 1 + top - oh * stride) // dilation + 1, kh)
    return low, b.let(tirx.max(high - low, 0))
