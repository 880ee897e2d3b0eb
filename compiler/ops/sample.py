"""Reading between pixels: GridSample, AffineGrid, RoiAlign, DeformConv."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, product, reduce

from . import mathfn
from .numbers import both, cast, clamp, floordiv, need_float, number, stored, wide
from .registry import Node, Unsupported, op
from .window import window


def _c(value: float, like: Scalar) -> Scalar:
    return tirx.const(value, str(like.ty.dtype))


# ---- GridSample --------------------------------------------------------------------------------------------
def _denormalise(v: Scalar, size: Index, align: bool) -> Scalar:
    """[-1, 1] to pixels: to the corner pixels' centres (align), or to their outer edges."""
    n = as_expr(size, "int64").astype(str(v.ty.dtype))
    one, two = _c(1, v), _c(2, v)
    return (v + one) / two * (n - one) if align else ((v + one) * n - one) / two


def _reflect(v: Scalar, low: Scalar, high: Scalar) -> Scalar:
    """v mirrored at `low` and `high` until it lies between."""
    span = high - low
    beyond = tirx.if_then_else(v < low, low - v, v - high)
    turns = tirx.floor(beyond / span)
    rest = beyond - turns * span
    even = turns - _c(2, v) * tirx.floor(turns / _c(2, v)) < _c(0.5, v)
    from_low = tirx.if_then_else(even, low + rest, high - rest)
    from_high = tirx.if_then_else(even, high - rest, low + rest)
    mirrored = tirx.if_then_else(v < low, from_low, from_high)
    return tirx.if_then_else(tirx.any(v < low, v > high), tirx.if_then_else(span > _c(0, v), mirrored, low), v)


@op("GridSample", since=16)
def grid_sample(node: Node) -> Tensor:
    """X [N, C, *D], grid [N, *out, len(D)] with the last axis first (x, y, z) -> [N, C, *out]."""
    x, grid = node.need(0), node.need(1)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.attr("mode", "bilinear"), node.attr("mode", "bilinear"))
    padding, align = node.attr("padding_mode", "zeros"), bool(node.attr("align_corners", 0))
    size = x.shape[2:]
    rank = len(size)
    if mode == "cubic" and rank != 2:
        raise Unsupported("cubic over other than two axes", "linear")
    if mode not in ("nearest", "linear", "cubic") or padding not in ("zeros", "border", "reflection"):
        raise Unsupported(f"mode {mode}, padding_mode {padding}")
    acc = (
        "float64"
        if "float64" in (x.dtype, grid.dtype) or x.dtype not in ("float16", "bfloat16", "float32")
        else "float32"
    )
    outs = grid.shape[1:-1]

    def bounds(n: Index, like: Scalar) -> tuple[Scalar, Scalar]:
        top = as_expr(n, "int64").astype(str(like.ty.dtype))
        return (_c(0, like), top - _c(1, like)) if align else (_c(-0.5, like), top - _c(0.5, like))

    def padded(v: Scalar, n: Index) -> Scalar:
        if padding == "border":
            return mathfn.maximum(mathfn.minimum(v, as_expr(n, "int64").astype(str(v.ty.dtype)) - _c(1, v)), _c(0, v))
        return _reflect(v, *bounds(n, v)) if padding == "reflection" else v

    def coordinate(n: Index, *rest: Index) -> Scalar:
        *at, axis = rest
        value = _denormalise(grid(n, *at, as_expr(rank - 1) - axis).astype(acc), _pick(size, axis), align)
        if mode == "nearest":
            value = tirx.nearbyint(value)
        # a pixel index takes padding by itself in the cubic mode, and interpolation before it in the others
        return value if mode == "cubic" else padded(value, _pick(size, axis))

    points = stored((grid.shape[0], *outs, rank), acc, coordinate, [grid], "points")

    def pixel(n: Index, c: Index, at: Sequence[Scalar]) -> Scalar:
        """The pixel at whole-numbered floats, with padding."""
        tests: list[Scalar] = []
        place = []
        for v, d in zip(at, size, strict=True):
            v = padded(v, d) if mode == "cubic" else v
            whole = mathfn.saturate(tirx.nearbyint(v), "int64")
            tests += [whole >= as_expr(0, "int64"), whole < as_expr(d, "int64")]
            place.append(clamp(whole, 0, d - 1))
        value = x(n, c, *place).astype(acc)
        return tirx.if_then_else(both(tests), value, tirx.const(0, acc)) if padding == "zeros" else value

    taps = {"nearest": 1, "linear": 2, "cubic": 4}[mode]

    def body(i: tuple, k: tuple) -> Scalar:
        n, c, *at = i
        weight: Scalar = tirx.const(1, acc)
        place = []
        for axis in range(rank):
            p = points(n, *at, as_expr(axis))
            if mode == "nearest":
                place.append(p)
                continue
            below = tirx.floor(p)
            tap = as_expr(k[axis]).astype(acc)
            tap = tap - _c(1, tap) if mode == "cubic" else tap
            place.append(below + tap)
            weight = weight * _tap_weight(mathfn.absolute(p - below - tap), mode)
        return weight * pixel(n, c, place)

    shape = (x.shape[0], x.shape[1], *outs)
    result = reduce(shape, acc, [taps] * rank, "sum", body, [x, points], None, "grid_sample")
    return cast(result, x.dtype)


def _pick(size: Sequence[Index], axis: Index) -> Scalar:
    """size[axis] for an axis that may be a loop variable."""
    result = as_expr(size[-1], "int64")
    for k in range(len(size) - 2, -1, -1):
        result = tirx.if_then_else(as_expr(axis) < as_expr(k + 1), as_expr(size[k], "int64"), result)
    return result


def _tap_weight(distance: Scalar, mode: str) -> Scalar:
    if mode == "linear":
        return _c(1, distance) - distance
    a = -0.75  # Keys' parameter as GridSample fixes it
    near = ((_c(a + 2, distance) * distance - _c(a + 3, distance)) * distance) * distance + _c(1, distance)
    far = ((_c(a, distance) * distance - _c(5 * a, distance)) * distance + _c(8 * a, distance)) * distance - _c(
        4 * a, distance
    )
    return tirx.Select(distance <= _c(1, distance), near, far)


# ---- AffineGrid --------------------------------------------------------------------------------------------
@op("AffineGrid", since=20)
def affine_grid(node: Node) -> Tensor:
    """theta [N, d, d + 1], size (N, C, *D) -> [N, *D, d]: the affine image of the grid over [-1, 1]."""
    theta = node.need(0)
    size = node.ints(1, "size")
    if size is None or len(size) not in (4, 5):
        raise Unsupported("size of other than four or five numbers")
    acc = wide(need_float(theta.dtype, node.op))
    align, dims = bool(node.attr("align_corners", 0)), size[2:]

    def along(at: Index, extent: Index) -> Scalar:
        v, n = as_expr(at).astype(acc), as_expr(extent, "int64").astype(acc)
        if align:
            return v * _c(2, v) / (n - _c(1, v)) - _c(1, v)
        return (v * _c(2, v) + _c(1, v)) / n - _c(1, v)

    def fn(n: Index, *rest: Index) -> Scalar:
        *at, row = rest
        value = theta(n, row, as_expr(len(dims))).astype(acc)
        for k, (i, extent) in enumerate(zip(at, dims, strict=True)):  # the last axis is x, theta's first column
            value = value + theta(n, row, as_expr(len(dims) - 1 - k)).astype(acc) * along(i, extent)
        return value.astype(theta.dtype)

    return compute((size[0], *dims, len(dims)), theta.dtype, fn, [theta], "affine_grid")


# ---- bilinear reads ----------------------------------------------------------------------------------------
def bilinear(read: Callable[[Index, Index], Scalar], y: Scalar, x: Scalar, h: Index, w: Index) -> Scalar:
    """The image at (y, x), zero outside; pixels outside count as zero."""
    result: Scalar = _c(0, y)
    for dy in (0, 1):
        for dx in (0, 1):
            row, col = tirx.floor(y) + _c(dy, y), tirx.floor(x) + _c(dx, x)
            wy = _c(1, y) - mathfn.absolute(y - row)
            wx = _c(1, x) - mathfn.absolute(x - col)
            r, c = mathfn.saturate(row, "int64"), mathfn.saturate(col, "int64")
            zero = as_expr(0, "int64")
            inside = tirx.all(r >= zero, r < as_expr(h, "int64"), c >= zero, c < as_expr(w, "int64"))
            value = read(clamp(r, 0, h - 1), clamp(c, 0, w - 1))
            result = result + tirx.if_then_else(inside, value * (wy * wx), _c(0, y))
    return result


@op("DeformConv", since=19)
def deform_conv(node: Node) -> Tensor:
    """Convolution with taps displaced by offset [N, groups*kH*kW*2, OH, OW] (Dai et al. 2017) and scaled by mask."""
    x, w, offset, bias, mask = node.need(0), node.need(1), node.need(2), node.input(3), node.input(4)
    if x.ndim != 4:
        raise Unsupported("other than two spatial axes")
    acc = wide(need_float(x.dtype, node.op))
    kernel = [number(k, "kernel") for k in w.shape[2:]]
    win = window(node, x.shape[2:], kernel)
    group, groups = int(node.attr("group", 1)), int(node.attr("offset_group", 1))
    channels, depth, outs = (
        number(x.shape[1], "channels"),
        number(w.shape[1], "channels"),
        number(w.shape[0], "channels"),
    )
    taps = product(kernel)
    if channels != depth * group or channels % groups or outs % group:
        raise Unsupported(f"{channels} channels in {group} groups and {groups} offset groups")

    def body(i: tuple, r: tuple) -> Scalar:
        n, o, oy, ox = i
        c = floordiv(o, outs // group) * depth + r[0]
        tap = as_expr(r[1]) * kernel[1] + r[2]
        which = floordiv(c, channels // groups) * taps + tap
        y, z = win.position([oy, ox], r[1:])
        fy = as_expr(y).astype(acc) + offset(n, which * 2, oy, ox).astype(acc)
        fx = as_expr(z).astype(acc) + offset(n, which * 2 + 1, oy, ox).astype(acc)
        value = bilinear(lambda a, b: x(n, c, a, b).astype(acc), fy, fx, x.shape[2], x.shape[3])
        if mask is not None:
            value = value * mask(n, which, oy, ox).astype(acc)
        return value * w(o, *r).astype(acc)

    finish = None if bias is None else lambda v, *i: v + bias(i[1]).astype(acc)
    used = [t for t in (x, w, offset, bias, mask) if t is not None]
    shape = (x.shape[0], outs, *win.out)
    return cast(reduce(shape, acc, (depth, *kernel), "sum", body, used, finish, "deform_conv"), x.dtype)


@op("RoiAlign", since=10)
def roi_align(node: Node) -> Tensor:
    """X [N, C, H, W], rois [R, 4] (x1, y1, x2, y2), batch_indices [R] -> [R, C, oh, ow] (He et al. 2017)."""
    x, rois, batch = node.need(0), node.need(1), node.need(2)
    acc = wide(need_float(x.dtype, node.op))
    oh, ow = int(node.attr("output_height", 1)), int(node.attr("output_width", 1))
    ratio, scale = int(node.attr("sampling_ratio", 0)), float(node.attr("spatial_scale", 1.0))
    default = "half_pixel" if node.version >= 16 else "output_half_pixel"
    half = node.attr("coordinate_transformation_mode", default) == "half_pixel"
    mode = node.attr("mode", "avg")
    if mode not in ("avg", "max"):
        raise Unsupported(f"mode {mode}", "avg or max")
    if ratio <= 0:
        raise Unsupported("sampling_ratio 0 (as many samples as the region has pixels)", "a positive sampling_ratio")
    h, w = x.shape[2], x.shape[3]

    def edges(r: Index, axis: int, out: int) -> tuple[Scalar, Scalar]:
        """Start and bin size along y (axis 1) or x (axis 0), in pixels."""
        start = rois(r, axis).astype(acc) * tirx.const(scale, acc)
        end = rois(r, axis + 2).astype(acc) * tirx.const(scale, acc)
        if half:
            start, end = start - tirx.const(0.5, acc), end - tirx.const(0.5, acc)
            return start, (end - start) / tirx.const(out, acc)
        return start, tirx.max(end - start, tirx.const(1, acc)) / tirx.const(out, acc)

    def sample(i: tuple, k: tuple) -> list[Scalar]:
        r, c, py, px = i
        n = clamp(batch(r).astype("int64"), 0, x.shape[0] - 1)
        (y0, by), (x0, bx) = edges(r, 1, oh), edges(r, 0, ow)
        step = tirx.const(ratio, acc)
        y = y0 + by * (as_expr(py).astype(acc) + (as_expr(k[0]).astype(acc) + tirx.const(0.5, acc)) / step)
        z = x0 + bx * (as_expr(px).astype(acc) + (as_expr(k[1]).astype(acc) + tirx.const(0.5, acc)) / step)
        return _roi_taps(lambda a, b: x(n, c, a, b).astype(acc), y, z, h, w)

    shape = (rois.shape[0], x.shape[1], oh, ow)
    if mode == "avg":
        count = tirx.const(ratio * ratio, acc)
        result = reduce(
            shape, acc, [ratio, ratio], "sum", lambda i, k: _total(sample(i, k)), [x, rois, batch],
            lambda v, *_: v / count, "roi_align",
        )  # fmt: skip
    else:
        result = reduce(
            shape, acc, [ratio, ratio], "max", lambda i, k: _most(sample(i, k)), [x, rois, batch], None, "roi_align"
        )
    return cast(result, x.dtype)


def _roi_taps(read: Callable[[Index, Index], Scalar], y: Scalar, x: Scalar, h: Index, w: Index) -> list[Scalar]:
    """The four weighted pixels around (y, x); all zero more than a pixel outside, clamped to the border nearer."""
    high, wide_ = (as_expr(d, "int64").astype(str(y.ty.dtype)) for d in (h, w))
    one = _c(1, y)
    gone = tirx.any(y < _c(-1, y), y > high, x < _c(-1, x), x > wide_)
    y = tirx.max(tirx.min(y, high - one), _c(0, y))
    x = tirx.max(tirx.min(x, wide_ - one), _c(0, x))
    fy, fx = tirx.floor(y), tirx.floor(x)
    ly, lx = y - fy, x - fx
    result = []
    for dy, wy in ((0, one - ly), (1, ly)):
        for dx, wx in ((0, one - lx), (1, lx)):
            value = read(
                clamp(mathfn.saturate(fy, "int64") + dy, 0, h - 1), clamp(mathfn.saturate(fx, "int64") + dx, 0, w - 1)
            )
            result.append(tirx.if_then_else(gone, _c(0, y), value * (wy * wx)))
    return result


def _total(values: Sequence[Scalar]) -> Scalar:
    return values[0] + values[1] + values[2] + values[3]


def _most(values: Sequence[Scalar]) -> Scalar:
    return tirx.max(tirx.max(values[0], values[1]), tirx.max(values[2], values[3]))


__all__ = ["affine_grid", "deform_conv", "grid_sample", "roi_align"]
