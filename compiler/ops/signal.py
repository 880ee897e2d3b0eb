"""Fourier transforms, as sums: exact for every length. A long transform of a power of two would want a fast one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, reduce

from .numbers import cast, floormod, need_float, number, stored
from .registry import Node, Unsupported, op
from .shapes import axis_of

ACC = "float64"  # sums of hundreds of terms that nearly cancel


def twiddles(n: int, inverse: bool) -> Tensor:
    """[n, 2, 2]: what part p (real, imaginary) of the input adds to part c of the output at angle 2 pi m / n."""

    def fn(m: Index, c: Index, p: Index) -> Scalar:
        angle = as_expr(m).astype(ACC) * tirx.const(2 * math.pi / n, ACC)
        sine = tirx.sin(angle) * tirx.const(-1 if inverse else 1, ACC)
        off = tirx.if_then_else(as_expr(c) < as_expr(p), sine, tirx.const(0, ACC) - sine)
        return tirx.if_then_else(tirx.EQ(as_expr(c, "int64"), as_expr(p, "int64")), tirx.cos(angle), off)

    return stored((n, 2, 2), ACC, fn, [], "twiddles")


@op("DFT", since=17)
def dft(node: Node) -> Tensor:
    """x [..., n, ..., 1 or 2] along `axis`; dft_length pads with zeros or crops."""
    x = node.need(0)
    need_float(x.dtype, node.op)
    if node.version >= 20:
        given = node.ints(2, "axis")
        axis = number(given[0], "axis") if given else -2
    else:
        axis = int(node.attr("axis", 1))
    axis = axis_of(axis, x.ndim)
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    size, parts = number(x.shape[axis], "the transformed dimension"), number(x.shape[-1], "the last dimension")
    if axis == x.ndim - 1 or parts not in (1, 2):
        raise Unsupported("a last dimension other than real or complex")
    length = node.ints(1, "dft_length")
    n = number(length[0], "dft_length") if length else 2 * (size - 1) if inverse and onesided else size
    if inverse and onesided:
        return _real_inverse(x, axis, n, size, parts)
    if onesided and parts != 1:
        raise Unsupported("a one-sided transform of complex numbers", "real input")
    shape = [*x.shape[:-1], 2]
    shape[axis] = n // 2 + 1 if onesided else n
    turn = twiddles(n, inverse)
    scale = tirx.const(1 / n if inverse else 1, ACC)

    def body(i: tuple, r: tuple) -> Scalar:
        value = x(*i[:axis], r[0], *i[axis + 1 : -1], r[1]).astype(ACC)
        return value * turn(_product_mod(i[axis], r[0], n), i[-1], r[1])

    extents = (min(size, n), parts)
    result = reduce(shape, ACC, extents, "sum", body, [x, turn], lambda v, *_: v * scale, "dft")
    return cast(result, x.dtype)


def _product_mod(a: Index, b: Index, n: int) -> Index:
    return floormod(as_expr(a).astype("int64") * as_expr(b).astype("int64"), n)


def _real_inverse(x: Tensor, axis: int, n: int, size: int, parts: int) -> Tensor:
    """The real signal of length n whose transform's first half is x: bins between the ends count twice."""
    bins = min(size, n // 2 + 1)
    turn = twiddles(n, True)
    shape = [*x.shape[:-1], 1]
    shape[axis] = n

    def body(i: tuple, r: tuple) -> Scalar:
        k = as_expr(r[0]).astype("int64")
        single = tirx.any(tirx.EQ(k, as_expr(0, "int64")), tirx.EQ(k * 2, as_expr(n, "int64")))
        times = tirx.if_then_else(single, tirx.const(1 / n, ACC), tirx.const(2 / n, ACC))
        value = x(*i[:axis], r[0], *i[axis + 1 : -1], r[1]).astype(ACC) * times
        # the imaginary parts of the first and the middle bin have no part in a real signal
        kept = tirx.if_then_else(tirx.all(single, as_expr(r[1]) > as_expr(0)), tirx.const(0, ACC), value)
        return kept * turn(_product_mod(i[axis], k, n), as_expr(0), r[1])

    return cast(reduce(shape, ACC, (bins, parts), "sum", body, [x, turn], None, "irdft"), x.dtype)


@op("STFT", since=17)
def stft(node: Node) -> Tensor:
    """signal [N, L, 1 or 2], frame_step, window [W], frame_length -> [N, frames, bins, 2]."""
    x, window = node.need(0), node.input(2)
    need_float(x.dtype, node.op)
    steps, lengths = node.ints(1, "frame_step"), node.ints(3, "frame_length")
    step = number((steps or [0])[0], "frame_step")
    signal = number(x.shape[1], "the signal's length")
    if lengths:
        n = number(lengths[0], "frame_length")
    else:
        n = number(window.shape[0], "the window") if window is not None else signal
    parts = number(x.shape[2], "the last dimension") if x.ndim == 3 else 1
    onesided = bool(node.attr("onesided", 1))
    if step < 1 or n > signal or (onesided and parts == 2):
        raise Unsupported("frames that do not fit the signal, or one-sided frames of complex numbers")
    if window is not None and number(window.shape[0], "the window") != n:
        raise Unsupported("a window of another length than the frames")
    turn = twiddles(n, False)
    frames, bins = 1 + (signal - n) // step, n // 2 + 1 if onesided else n

    def body(i: tuple, r: tuple) -> Scalar:
        at: Sequence[Index] = (i[0], i[1] * step + r[0], r[1]) if x.ndim == 3 else (i[0], i[1] * step + r[0])
        value = x(*at).astype(ACC) * turn(_product_mod(i[2], r[0], n), i[3], r[1])
        return value if window is None else value * window(r[0]).astype(ACC)

    used = [x, turn] if window is None else [x, turn, window]
    return cast(reduce((x.shape[0], frames, bins, 2), ACC, (n, parts), "sum", body, used, None, "stft"), x.dtype)


_WINDOWS = {  # a0 - a1 cos(t) + a2 cos(2t)
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@op(*_WINDOWS, since=17)
def window(node: Node) -> Tensor:
    """A window of the given size, periodic unless the attribute says otherwise."""
    sizes = node.ints(0, "size")
    n = number((sizes or [0])[0], "size")
    dtype = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}.get(int(node.attr("output_datatype", 1)))
    if dtype is None:
        raise Unsupported("a window of integers", "float32")
    a0, a1, a2 = (tirx.const(a, ACC) for a in _WINDOWS[node.op])
    around = n if node.attr("periodic", 1) else n - 1

    def fn(i: Index) -> Scalar:
        t = as_expr(i).astype(ACC) * tirx.const(2 * math.pi / max(around, 1), ACC)
        value = a0 - a1 * tirx.cos(t) + a2 * tirx.cos(t * tirx.const(2, ACC))
        return value.astype(dtype)

    return compute((n,), dtype, fn, [], "window")
