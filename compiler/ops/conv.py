"""Convolution and its transpose, over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, reduce, simplify

from .numbers import both, cast, equal, floordiv, floormod, need_float, number, wide
from .registry import Node, Unsupported, op
from .window import Window, window


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, win: Window, group: int, channels_last: bool = False) -> Tensor:
    """x [N, C, *spatial] (or [N, *spatial, C]), w [O, C/group, *kernel], bias [O] -> [N, O, *out] (or [N, *out, O])."""
    need_float(x.dtype, "Conv")
    channel = x.ndim - 1 if channels_last else 1
    c, o = number(x.shape[channel], "channels"), number(w.shape[0], "channels")
    depth = number(w.shape[1], "channels")
    if c != depth * group or o % group:
        raise Unsupported(f"{c} channels to {o} in {group} groups with weights for {depth}")
    acc = wide(x.dtype)
    per = o // group

    def place(n: Index, ch: Index, spatial: Sequence[Index]) -> tuple[Index, ...]:
        return (n, *spatial, ch) if channels_last else (n, ch, *spatial)

    def split(i: Sequence[Index]) -> tuple[Index, Index, Sequence[Index]]:
        return (i[0], i[-1], i[1:-1]) if channels_last else (i[0], i[1], i[2:])

    def body(i: tuple, r: tuple) -> tirx.Expr:
        n, ch, at = split(i)
        position = win.position(at, r[1:])
        source = r[0] if group == 1 else (floordiv(ch, per) * depth + r[0] if depth > 1 else floordiv(ch, per))
        inside = win.inside(position)
        value = x(*place(n, source, position)).astype(acc)
        if not isinstance(inside, tirx.IntImm):
            value = tirx.if_then_else(inside, value, tirx.const(0, acc))
        return value * w(ch, *r).astype(acc)

    def finish(value: tirx.Expr, *i: Index) -> tirx.Expr:
        return value + bias(split(i)[1]).astype(acc)  # type: ignore[misc]

    inputs = [x, w] if bias is None else [x, w, bias]
    result = reduce(
        place(x.shape[0], o, win.out), acc, (depth, *win.kernel), "sum", body, inputs,
        None if bias is None else finish, "conv",
    )  # fmt: skip
    return cast(result, x.dtype)


@op("Conv", since=1)
def conv(node: Node) -> Tensor:
    """X [N, C, *spatial], W [O, C/group, *kernel], B [O]; any number of spatial axes."""
    x, w = node.need(0), node.need(1)
    kernel = [number(k, "kernel") for k in w.shape[2:]]
    return convolve(x, w, node.input(2), window(node, x.shape[2:], kernel), int(node.attr("group", 1)))


@op("Conv2d", since=1, domain="edgert")
def conv2d(node: Node) -> Tensor:
    """x [N, H, W, C], w [O, C/group, kH, kW], pads [top, left, bottom, right] -> [N, OH, OW, O]."""
    x, w = node.need(0), node.need(1)
    kernel = [number(k, "kernel") for k in w.shape[2:]]
    win = window(node, x.shape[1:3], kernel)
    return convolve(x, w, node.input(2), win, int(node.attr("group", 1)), channels_last=True)


def transposed(node: Node, size: Sequence[Index], kernel: Sequence[int]) -> Window:
    """The windows of the convolution whose transpose the node is: `size` is the larger side, `out` the node's input."""
    rank = len(size)
    stride = tuple(node.attr("strides") or [1] * rank)
    dilation = tuple(node.attr("dilations") or [1] * rank)
    extra = list(node.attr("output_padding") or [0] * rank)
    pads = list(node.attr("pads") or [0] * (2 * rank))
    wanted = node.attr("output_shape")
    auto = node.attr("auto_pad", "NOTSET")
    before, after, large = [], [], []
    for a, (n, k) in enumerate(zip(size, kernel, strict=True)):
        full = (n - 1) * stride[a] + extra[a] + (k - 1) * dilation[a] + 1
        low, high = pads[a], pads[a + rank]
        if auto == "VALID":
            low, high = 0, 0
        if wanted or auto.startswith("SAME"):
            goal = wanted[len(wanted) - rank + a] if wanted else n * stride[a]
            total = number(simplify(full - goal), "padding")
            if not wanted:
                total = max(total, 0)
            half = total // 2
            low, high = (half, total - half) if auto == "SAME_UPPER" or auto == "NOTSET" else (total - half, half)
            if auto == "NOTSET":
                low, high = total - half, half
        before.append(low)
        after.append(high)
        large.append(simplify(full - low - high))
    return Window(tuple(large), tuple(kernel), stride, dilation, tuple(before), tuple(after), tuple(size))


def convolve_transposed(
    x: Tensor, w: Tensor, bias: Tensor | None, win: Window, group: int, channels_last: bool = False
) -> Tensor:
    """x [N, C, *spatial], w [C, O/group, *kernel] -> [N, O, *win.size]; channels last: [N, *spatial, C], and so out."""
    need_float(x.dtype, "ConvTranspose")
    channel = x.ndim - 1 if channels_last else 1
    c, per = number(x.shape[channel], "channels"), number(w.shape[1], "channels")
    if c % group:
        raise Unsupported(f"{c} channels in {group} groups")
    acc, depth = wide(x.dtype), c // group

    def body(i: tuple, r: tuple) -> tirx.Expr:
        ch, at = (i[-1], i[1:-1]) if channels_last else (i[1], i[2:])
        tests: list[tirx.Expr | bool] = []
        source: list[Index] = []
        for y, k, s, d, p, n in zip(at, r[1:], win.stride, win.dilation, win.before, win.out, strict=True):
            offset = y + p - k * d
            if s > 1:
                tests.append(equal(floormod(offset, s), 0))
            offset = floordiv(offset, s) if s > 1 else offset
            tests += [as_expr(offset) >= 0, as_expr(offset) < as_expr(n)]
            source.append(offset)
        channel = floordiv(ch, per) * depth + r[0] if group > 1 else r[0]
        value = x(i[0], *source, channel) if channels_last else x(i[0], channel, *source)
        value = value.astype(acc) * w(channel, floormod(ch, per) if group > 1 else ch, *r[1:]).astype(acc)
        return tirx.if_then_else(both(tests), value, tirx.const(0, acc))

    def finish(value: tirx.Expr, *i: Index) -> tirx.Expr:
        return value + bias(i[-1] if channels_last else i[1]).astype(acc)  # type: ignore[misc]

    o = per * group
    shape = (x.shape[0], *win.size, o) if channels_last else (x.shape[0], o, *win.size)
    inputs = [x, w] if bias is None else [x, w, bias]
    result = reduce(
        shape, acc, (depth, *win.kernel), "sum", body, inputs, None if bias is None else finish, "conv_transpose"
    )
    return cast(result, x.dtype)


@op("ConvTranspose", since=1)
def conv_transpose(node: Node) -> Tensor:
    """X [N, C, *spatial], W [C, O/group, *kernel], B [O]; any number of spatial axes."""
    x, w = node.need(0), node.need(1)
    kernel = [number(k, "kernel") for k in w.shape[2:]]
    win = transposed(node, x.shape[2:], kernel)
    return convolve_transposed(x, w, node.input(2), win, int(node.attr("group", 1)))


@op("ConvTranspose2d", since=1, domain="edgert")
def conv_transpose2d(node: Node) -> Tensor:
    """x [N, H, W, C], w [C, O/group, kH, kW] -> [N, OH, OW, O]."""
    x, w = node.need(0), node.need(1)
    kernel = [number(k, "kernel") for k in w.shape[2:]]
    win = transposed(node, x.shape[1:3], kernel)
    return convolve_transposed(x, w, node.input(2), win, int(node.attr("group", 1)), channels_last=True)
