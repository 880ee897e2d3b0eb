"""Copies an NHWC tensor into a padded buffer, for convolutions whose border would need too many special cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tvm import tirx

from targets.dtypes import item_size
from targets.target import Target

from .builder import Builder
from .conv2d_shape import ConvShape
from .stage import Slide, Stage, Temp
from .tensor import Tensor, as_expr, simplify
from .tiles import chunks

LINE = 64  # elements: at least a cache line


def padded(
    x: Tensor, s: ConvShape, target: Target, border: Tensor | None = None
) -> tuple[Stage, Temp, ConvShape]:  # fmt: skip
    """The copying stage, its buffer, and the convolution's sizes over that buffer (without pads).

    border: a scalar, what the padding holds (0 where not given).
    """
    top, left, bottom, right = s.pads
    height, width = s.height + top + bottom, s.width + left + right
    buffer = Temp((s.batch, height, width, s.channels), x.dtype, "padded")
    b = Builder(f"pad_nhwc_{x.dtype}_{target.name.split('-')[-1]}")
    lanes = target.lanes(x.dtype)
    with b:
        zero = tirx.const(0, x.dtype) if border is None else b.let(border(*[as_expr(0)] * border.ndim))
        source = b.arg(x, (s.batch * s.height, s.width * s.channels))
        out = b.arg(buffer, (s.batch * height, width * s.channels))

        def fill(row: tirx.Expr, start: int, count: int, value: Callable[[tirx.Expr], tirx.Expr]) -> None:
            whole = count // lanes
            if whole:
                with b.serial(whole) as i, b.vector(lanes) as v:
                    b.store(out, (row, i * lanes + v + start), value(i * lanes + v))
            for offset, width in chunks(count % lanes, lanes):
                with b.vector(width) as v:
                    at = whole * lanes + offset
                    b.store(out, (row, v + (at + start)), value(v + at))

        with b.parallel(s.batch * height, max(1, 16384 // (width * s.channels))) as row:
            y = b.let(row % height - top)
            with b.when(tirx.all(y >= 0, y < s.height)):
                line = b.let(row // height * s.height + y)
                fill(row, 0, left * s.channels, lambda i: zero)
                fill(row, left * s.channels, s.width * s.channels, lambda i: source[line, i])
                fill(row, (left + s.width) * s.channels, right * s.channels, lambda i: zero)
            with b.otherwise():
                fill(row, 0, width * s.channels, lambda i: zero)
    stage = b.stage()
    if isinstance(s.batch, int):
        read, written = (next(i for i, leaf in enumerate(stage.operands) if leaf is wanted) for wanted in (x, buffer))
        stage.slide = Slide(read, written, _slide(s) * item_size(x.dtype))
    return stage, buffer, replace(s, height=height, width=width, pads=(0, 0, 0, 0))


def _slide(s: ConvShape) -> int:
    """The element of the padded image from which on the plain one may lie: rows move towards the front, the last one
    least, and a whole new row ends before the old one begins, as code generators take the two for separate memory and
    may write the border first. Whole cache lines, where kernels like their operands to begin.
    """
    top, left, bottom, right = s.pads
    row, wide = s.width * s.channels, (s.width + left + right) * s.channels
    before = simplify(s.batch * s.height - 1)  # rows before the last one
    above = simplify((s.batch - 1) * (s.height + top + bottom) + top + s.height - 1)
    return -(-((above + 1) * wide - before * row) // LINE) * LINE
