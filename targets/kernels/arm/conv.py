"""Convolutions as products: of eight output pixels what they read is packed, as rows of a matrix are."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from targets.target import Target

from ..conv2d_shape import ConvShape
from ..gemm_tasks import known_rows
from ..registry import Call
from ..stage import Leaf, Stage
from ..tails import unravel
from ..tensor import Index, Tensor, as_expr, simplify
from .micro import micro_for
from .packing import Read, moved_const, weights_const
from .product import LEAST_COLS, LEAST_ROWS, Product


def arm_conv(call: Call, target: Target, x: Leaf, w: Tensor, s: ConvShape) -> Stage | None:
    """The stage that convolves `x` (NHWC, of the shape in `s`) with constant weights; None where this is not the way.

    Pads hold 0, for floats only: bytes come with their border.
    """
    rows = simplify(s.batch * (s.out_height * s.out_width))
    padded = any(s.pads)
    # what a kernel row reads lies side by side, unless some of it is outside
    runs = s.kernel[0] if s.dilations[1] == 1 and not padded else s.kernel[0] * s.kernel[1]
    depth = s.depth // runs
    if s.group > 1 or known_rows(rows) < LEAST_ROWS or s.out_channels < LEAST_COLS:
        return None
    if "mr" in call.config or padded and x.dtype != "float32":
        return None

    def matrix() -> np.ndarray:
        data = np.asarray(w.data())  # type: ignore[misc]
        return data.transpose(2, 3, 1, 0).reshape(-1, s.out_channels)

    way = micro_for(target, x.dtype, s.depth, s.out_channels, matrix)
    if way is None:
        return None
    const = weights_const(w.name, matrix, depth, s.out_channels, way, f"{w.name}:conv", runs)
    moved = moved_const(w.name, matrix, s.out_channels, f"{w.name}:conv") if way.moved else None
    kernel = f"conv{s.kernel[0]}x{s.kernel[1]}_nhwc"
    made = Product(call, target, kernel, rows, x, const, way, runs, depth, s.out_channels, moved)
    return made.stage(lambda count, first: _Window(made, s, count, first, runs).source)


class _Window:
    """What `count` neighbouring output pixels read."""

    def __init__(self, made: Product, s: ConvShape, count: int, first: tirx.Expr, runs: int) -> None:
        self.made, self.s, self.padded = made, s, any(s.pads)
        self.columns = runs // s.kernel[0]  # runs in a kernel row
        b = made.b
        self.corners = []
        for i in range(count):
            n, oh, ow = unravel(b, b.let(first + i), [s.batch, s.out_height, s.out_width])
            self.corners.append((n, b.let(oh * s.strides[0] - s.pads[0]), b.let(ow * s.strides[1] - s.pads[1])))

    def source(self, run: tirx.Expr) -> Read:
        """How the elements of a run are read: zeros where it is outside of the image."""
        b, s = self.made.b, self.s
        kh, kw = unravel(b, run, [s.kernel[0], self.columns])
        starts, masks = [], []
        for n, top, left in self.corners:
            y, x = b.let(top + kh * s.dilations[0]), b.let(left + kw * s.dilations[1])
            if self.padded:
                inside = tirx.all(y >= 0, y < s.height, x >= 0, x < s.width)
                masks.append(b.let(tirx.Select(inside, tirx.const(-1, "int32"), tirx.const(0, "int32"))))
                y, x = (tirx.max(tirx.min(v, size - 1), _int(0)) for v, size in ((y, s.height), (x, s.width)))
            starts.append(b.let(((n * s.height + y) * s.width + x) * s.channels))

        def read(i: int, k: Index, known: int) -> tirx.Expr:
            value = self.made.load(starts[i] + as_expr(k, "int64"), known)
            if not self.padded:
                return value
            lanes = "" if known == 1 else f"x{known}"
            mask = masks[i] if known == 1 else tirx.Broadcast(masks[i], known)
            return tirx.reinterpret(f"float32{lanes}", tirx.reinterpret(f"int32{lanes}", value) & mask)

        return read


def _int(value: int) -> tirx.Expr:
    return tirx.const(value, "int64")
