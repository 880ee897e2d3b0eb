"""A convolution of bytes on AMX: tiles of neighbouring output pixels of a line, read straight from the image.

Along a kernel row the bytes that one output pixel reads are one run in memory; those of the next pixel are some
channels further on, which is the stride of a tile's load. A line is cut into even tiles of at most 16 pixels, and where
they do not come out even the last one starts early.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

from . import amx
from .amx import SIDE
from .amx_gemm import pays
from .amx_kernel import AmxKernel, Place
from .conv2d_shape import ConvShape
from .registry import Call
from .stage import Leaf, Stage
from .tensor import Index, Tensor, simplify


def amx_conv(call: Call, target: Target, x: Leaf, w: Tensor, s: ConvShape) -> Stage | None:
    """The stage that convolves `x`, bytes of the shape in `s`, which has no pads; None where that does not pay.

    w: constant int8 [O, C, kH, kW]. `x` needs a spare line below where `wants_spare_line` says so.
    """
    pixels = s.out_height * s.out_width
    if target.tiles != "amx" or s.group > 1 or not pays(pixels, s.out_channels, s.depth):
        return None
    if pixels <= SIDE and not isinstance(s.batch, int):
        return None
    return _Conv(call, target, x, w, s).stage()


def wants_spare_line(target: Target, s: ConvShape) -> bool:
    """Whether the last pixel's tiles reach up to 3 bytes beyond it: few channels, and no multiple of 4 in a run."""
    return target.tiles == "amx" and s.group == 1 and runs_of(s)[1].beyond > 0


def runs_of(s: ConvShape) -> tuple[int, amx.Steps]:
    """Runs in a kernel row, of bytes that lie side by side in memory, and the steps of one."""
    if s.dilations[1] == 1:
        return 1, amx.steps_of(s.kernel[1] * s.channels)
    return s.kernel[1], amx.steps_of(s.channels)


class _Conv(AmxKernel):
    def __init__(self, call: Call, target: Target, x: Leaf, w: Tensor, s: ConvShape) -> None:
        self.s, self.stride = s, s.strides[1] * s.channels
        self.columns, self.steps = runs_of(s)
        self.a_line = -(-s.out_width // SIDE)  # tiles
        self.tile = -(-s.out_width // self.a_line)
        self.tiles = simplify(s.batch * (s.out_height * self.a_line))
        self.tall = 1 if isinstance(self.tiles, int) and self.tiles == 1 else 2
        self.height = self.tile * self.tall

        def matrix() -> np.ndarray:
            data = np.asarray(w.data())  # type: ignore[misc]
            return data.transpose(2, 3, 1, 0).reshape(-1, data.shape[0])

        packed = amx.tiles_const(
            w.name, matrix, s.out_channels, self.steps, s.kernel[0] * self.columns, f"{w.name}:conv"
        )
        blocks = simplify((self.tiles + (self.tall - 1)) // self.tall)
        known = max(1, -(-s.out_height * self.a_line * (s.batch if isinstance(s.batch, int) else 1) // self.tall))
        area = s.strides[0] * s.strides[1] * s.channels * self.height  # bytes of the image to a block
        name = f"conv{s.kernel[0]}x{s.kernel[1]}_nhwc"
        super().__init__(call, target, name, x, packed, s.out_channels, s.depth, blocks, known, area)

    def place(self, block: tirx.Expr, group: tirx.Expr) -> Place:
        b, s, tile = self.b, self.s, self.tile
        first = start = b.let(block * self.tall)
        if not isinstance(self.tiles, int) or self.tiles % self.tall:
            start = b.let(tirx.min(first, self.tiles - self.tall))  # the last block meets a tile again
        origins, pixels, skips = [], [], []
        for i in range(self.tall):
            number = b.let(start + i)
            line, x = number, tirx.const(0, "int64")
            skip: Index = 0
            if self.a_line > 1:
                line = b.let(tirx.truncdiv(number, tirx.const(self.a_line, "int64")))
                along = b.let((number - line * self.a_line) * tile)
                x = b.let(tirx.min(along, tirx.const(s.out_width - tile, "int64")))
                skip = along - x if s.out_width % tile else 0
            if start is not first and i == 0:
                skip = tirx.Select(start < first, tirx.const(tile, "int64"), skip + tirx.const(0, "int64"))
            image = b.let(tirx.truncdiv(line, tirx.const(s.out_height, "int64")))
            above = image * s.height + (line - image * s.out_height) * s.strides[0]
            origins.append(b.let((above * s.width + x * s.strides[1]) * s.channels))
            pixels.append(b.let(line * s.out_width + x - i * tile))
            skips.append(skip if isinstance(skip, int) else b.let(skip + i * tile))

        def of(values: list, i: tirx.Expr) -> tirx.Expr:
            return values[0] if self.tall == 1 else tirx.Select(i < tile, *values)

        guard = None
        if any(not isinstance(skip, int) for skip in skips):
            least = [tirx.const(0, "int64") if isinstance(skip, int) else skip for skip in skips]
            guard = lambda i: i >= of(least, i)  # noqa: E731
        return Place(block, group, origins, lambda i: of(pixels, i) + i, guard)

    def offset(self, step: Index) -> Index:
        s, steps = self.s, self.steps
        run, at = _divmod(step, steps.count)
        row, column = _divmod(run, self.columns)
        return (row * s.dilations[0] * s.width + column * s.dilations[1]) * s.channels + steps.start(at)


def _divmod(value: Index, divisor: int) -> tuple[Index, Index]:
    if isinstance(value, int):
        return divmod(value, divisor)
    size = tirx.const(divisor, "int64")
    return tirx.truncdiv(value, size), tirx.truncmod(value, size)
