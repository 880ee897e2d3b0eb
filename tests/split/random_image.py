"""Pieces of random networks: operators over images, and over values of any rank."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from hypothesis import strategies as st

from tests.split.random_graph import MOST, Graph, Shape

SIMPLE = ("Relu", "Sigmoid", "HardSwish", "Tanh", "Neg", "LeakyRelu", "Identity", "Clip")

Draw = st.DrawFn
Maker = Callable[[Draw, Graph, str], None]  # adds operators that read the value named; nothing where it cannot


def _windowed(size: int, kernel: int, stride: int, dilation: int, before: int, after: int, up: bool = False) -> int:
    room = size + before + after - (kernel - 1) * dilation - 1
    return (-(-room // stride) if up else room // stride) + 1


def conv(draw: Draw, g: Graph, x: str) -> None:
    n, c, h, w = g.shapes[x]
    group = draw(st.sampled_from([1, 1, c, 2] if c % 2 == 0 else [1, c]))
    out = draw(st.sampled_from([8, 16, 4, 24, 3])) if group == 1 else c * draw(st.sampled_from([1, 2]))
    k = draw(st.sampled_from([3, 1, 5, 2]))
    stride = draw(st.sampled_from([1, 2])) if min(h, w) > 3 else 1
    dilation = draw(st.sampled_from([1, 1, 1, 2])) if k == 3 else 1
    same = (k - 1) * dilation // 2
    pads = draw(st.sampled_from([[same] * 4, [0, 0, 1, 1], [1, 1, 0, 0], [0] * 4])) if k > 1 else [0] * 4
    rows, cols = (_windowed(s, k, stride, dilation, pads[i], pads[i + 2]) for i, s in enumerate((h, w)))
    if min(rows, cols) < 1 or n * out * rows * cols > MOST:
        return
    inputs = [x, g.weight(out, c // group, k, k)] + ([g.weight(out)] if draw(st.booleans()) else [])
    y = g.op(
        "Conv", inputs, (n, out, rows, cols), strides=[stride] * 2, dilations=[dilation] * 2, group=group, pads=pads
    )
    if draw(st.booleans()):
        g.like("Relu", [y])


def pool(draw: Draw, g: Graph, x: str) -> None:
    n, c, h, w = g.shapes[x]
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    k, stride = draw(st.sampled_from([(2, 2), (3, 2), (3, 1), (2, 1)]))
    pad = draw(st.sampled_from([0, 1])) if k == 3 else 0
    more = {"ceil_mode": 1} if draw(st.booleans()) and stride == 2 else {}
    if kind == "AveragePool" and not more:
        more = {"count_include_pad": draw(st.sampled_from([0, 1]))}
    rows, cols = (_windowed(s, k, stride, 1, pad, pad, "ceil_mode" in more) for s in (h, w))
    # a last window that begins in the padding behind the image does not count
    if more.get("ceil_mode"):
        rows, cols = (r - ((r - 1) * stride >= s + pad) for r, s in ((rows, h), (cols, w)))
    if min(h, w) >= k and min(rows, cols) >= 1:
        g.op(kind, [x], (n, c, rows, cols), kernel_shape=[k] * 2, strides=[stride] * 2, pads=[pad] * 4, **more)


def simple(draw: Draw, g: Graph, x: str) -> None:
    g.like(draw(st.sampled_from(SIMPLE)), [x])


def excite(draw: Draw, g: Graph, x: str) -> None:
    """Channels weighted by what their means say, as MobileNetV3 has it."""
    n, c, _, _ = g.shapes[x]
    s = g.op("GlobalAveragePool", [x], (n, c, 1, 1))
    s = g.op("Conv", [s, g.weight(c, c, 1, 1), g.weight(c)], (n, c, 1, 1))
    g.like("Mul", [x, g.like("Sigmoid", [s])])


def join(draw: Draw, g: Graph, x: str) -> None:
    """With another value of the same shape, made before; or with itself."""
    others = [n for n, shape in g.shapes.items() if shape == g.shapes[x]]
    y = draw(st.sampled_from(others))
    pair = [x, y] if draw(st.booleans()) else [y, x]
    g.like(draw(st.sampled_from(["Add", "Add", "Mul", "Sub", "Max"])), pair)


def weighted(draw: Draw, g: Graph, x: str) -> None:
    """With a constant for each channel or column."""
    shape = g.shapes[x]
    along = [shape[1], 1, 1] if len(shape) == 4 else [shape[-1]]
    g.like(draw(st.sampled_from(["Mul", "Add"])), [x, g.weight(*along)])


def concat(draw: Draw, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    axis = draw(st.integers(1, len(shape) - 1))

    def fits(other: Shape) -> bool:
        return len(other) == len(shape) and all(
            a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis
        )

    parts = [x, draw(st.sampled_from([n for n, other in g.shapes.items() if fits(other)]))]
    if draw(st.booleans()):
        parts.reverse()
    size = sum(g.shapes[p][axis] for p in parts)
    made = (*shape[:axis], size, *shape[axis + 1 :])
    if prod(made) <= MOST:
        g.op("Concat", parts, made, axis=axis)


def cut(draw: Draw, g: Graph, x: str) -> None:
    """Split in two, one part of which may go out as it is; or a slice."""
    shape = g.shapes[x]
    axes = [axis for axis, size in enumerate(shape) if axis and size > 1]
    if not axes:
        return
    axis = draw(st.sampled_from(axes))
    size = shape[axis]

    def cropped(rows: int) -> Shape:
        return (*shape[:axis], rows, *shape[axis + 1 :])

    at = draw(st.sampled_from([size // 2, 1, size - 1]))
    if draw(st.booleans()):
        g.op("Split", [x, g.numbers(at, size - at)], cropped(at), cropped(size - at), axis=axis)
        return
    begin, end = draw(st.sampled_from([(0, at), (at, size), (at - size, 1 << 40)]))
    g.op("Slice", [x, *(g.numbers(i) for i in (begin, end, axis))], cropped(min(end, size) - begin % size))


def halo(draw: Draw, g: Graph, x: str) -> None:
    n, c, h, w = g.shapes[x]
    if n * c * (h + 2) * (w + 1) <= MOST:
        g.op("Pad", [x, g.numbers(0, 0, 1, 1, 0, 0, 1, 0)], (n, c, h + 2, w + 1))


def grow(draw: Draw, g: Graph, x: str) -> None:
    n, c, h, w = g.shapes[x]
    if n * c * h * w * 4 <= MOST:
        scales = g.constant(np.array([1, 1, 2, 2], np.float32), "scales")
        g.op("Resize", [x, "", scales], (n, c, 2 * h, 2 * w), mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip


def turn(draw: Draw, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    perm = [0, *draw(st.permutations(range(1, len(shape))))]
    g.op("Transpose", [x], tuple(shape[i] for i in perm), perm=perm)
