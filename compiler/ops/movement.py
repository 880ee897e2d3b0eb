"""Data movement by constant rules: Concat, Split, Slice, Expand, Tile, Pad, DepthToSpace and the like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, same_dim, simplify

from .elementwise import broadcast_shape, broadcast_to
from .numbers import both, clamp, floordiv, floormod
from .registry import Node, Unsupported, op
from .shapes import axes_of, axis_of


@op("Concat", since=4, kind="injective")
def concat(node: Node) -> Tensor:
    """The inputs one after another along `axis`."""
    parts = [t for t in node.inputs if t is not None]
    axis = axis_of(int(node.attr("axis")), parts[0].ndim)
    for t in parts[1:]:
        same = [same_dim(a, b) for i, (a, b) in enumerate(zip(t.shape, parts[0].shape, strict=True)) if i != axis]
        if t.ndim != parts[0].ndim or not all(same):
            raise Unsupported(
                f"concatenating shapes {parts[0].shape} and {t.shape} along axis {axis}", "equal other dimensions"
            )
    starts: list[Index] = [0]
    for t in parts:
        starts.append(simplify(starts[-1] + t.shape[axis]))
    filled = [(t, s) for t, s in zip(parts, starts, strict=False) if not _is_zero(t.shape[axis])]

    def element(*i: Index) -> tirx.Expr:
        result: tirx.Expr | None = None
        for t, start in reversed(filled):
            first = isinstance(start, int) and start == 0
            value = t(*i[:axis], i[axis] if first else simplify(as_expr(i[axis]) - start), *i[axis + 1 :])
            # if_then_else, not Select: the other side would be read outside its buffer
            end = as_expr(simplify(start + t.shape[axis]))
            result = value if result is None else tirx.if_then_else(as_expr(i[axis]) < end, value, result)
        return as_expr(0, parts[0].dtype) if result is None else result

    shape = [*parts[0].shape[:axis], starts[-1], *parts[0].shape[axis + 1 :]]
    return compute(shape, parts[0].dtype, element, parts, "concat")


def _is_zero(value: Index) -> bool:
    return isinstance(value, int) and value == 0


def sliced(x: Tensor, axis: int, start: Index, size: Index) -> Tensor:
    """`size` elements of `x` from `start` along one axis."""
    shape = [*x.shape[:axis], size, *x.shape[axis + 1 :]]
    return compute(shape, x.dtype, lambda *i: x(*i[:axis], i[axis] + start, *i[axis + 1 :]), [x], "slice")


@op("Split", since=1, kind="injective")
def split(node: Node) -> list[Tensor]:
    """Consecutive parts along `axis`: of given sizes, or equal ones (num_outputs: the last may be smaller)."""
    x = node.need(0)
    axis = axis_of(int(node.attr("axis", 0)), x.ndim)
    sizes: Sequence[Index] | None = node.attr("split") or node.ints(1, "split")
    total = x.shape[axis]
    if not sizes:
        count = int(node.attr("num_outputs") or len(node.outputs))
        if not isinstance(total, int):
            raise Unsupported("Split of a symbolic dimension into equal parts", "Split with given sizes")
        each = -(-total // count) if node.version >= 18 else total // count
        sizes = [min(each, max(0, total - each * k)) for k in range(count)]
    parts, start = [], 0
    for size in sizes:
        parts.append(sliced(x, axis, start, size))
        start = simplify(start + size)
    if not same_dim(start, total):
        raise Unsupported(f"Split sizes {list(sizes)} of a dimension of {total}", "sizes that add up")
    return parts


@op("Slice", since=1, kind="injective")
def slice_(node: Node) -> Tensor:
    """numpy's slicing with negative starts, ends and steps; bounds are clamped (ONNX Slice-13)."""
    x = node.need(0)
    if node.attr("starts") is not None:
        starts, ends = list(node.attr("starts")), list(node.attr("ends"))
        axes, steps = node.attr("axes"), None
    else:
        starts, ends = node.ints(1, "starts") or [], node.ints(2, "ends") or []
        axes, steps = node.ints(3, "axes"), node.ints(4, "steps")
    axes = axes_of(list(axes) if axes is not None else list(range(len(starts))), x.ndim)
    steps = list(steps) if steps is not None else [1] * len(starts)
    begin: list[Index] = [0] * x.ndim
    stride = [1] * x.ndim
    shape = list(x.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not isinstance(step, int) or step == 0:
            raise Unsupported(f"a slice step of {step}", "a constant step other than 0")
        begin[axis], shape[axis] = _range(start, end, step, x.shape[axis])
        stride[axis] = step

    def element(*i: Index) -> tirx.Expr:
        return x(*[k * s + b if s != 1 else (k + b if not (isinstance(b, int) and b == 0) else k)
                   for k, s, b in zip(i, stride, begin, strict=True)])  # fmt: skip

    return compute(shape, x.dtype, element, [x], "slice")


def _range(start: Index, end: Index, step: int, size: Index) -> tuple[Index, Index]:
    """The first element and how many a slice takes of `size`."""

    def place(value: Index, low: Index, high: Index) -> Index:
        if isinstance(value, int):
            if value < 0:
                value = size + value if value > -(2**31) else low
            elif value >= 2**31 - 1:
                return high
            if isinstance(value, int) and value == 0 and isinstance(low, int) and low <= 0:
                return 0
        elif not isinstance(value, int):
            wide = as_expr(value, "int64")
            if _may_be_negative(value):
                value = simplify(tirx.if_then_else(wide < 0, wide + as_expr(size, "int64"), wide))
            if same_dim(value, size):
                return high
        return simplify(clamp(value, low, high))

    if step > 0:
        first, last = place(start, 0, size), place(end, 0, size)
        count = floordiv(last - first + (step - 1), step)
    else:
        top = size - 1
        first, last = place(start, 0, top), place(end, -1, top)
        count = floordiv(first - last + (-step - 1), -step)
    count = max(0, count) if isinstance(count, int) else simplify(tirx.max(count, as_expr(0, "int64")))
    return first, count


def _may_be_negative(value: Index) -> bool:
    """Symbolic starts and ends are sizes or sums of them; only a difference can fall below zero."""
    return "-" in str(value)


@op("Expand", since=8, kind="injective")
def expand(node: Node) -> Tensor:
    """Broadcasts to the given shape (both ways, as for element-wise operators)."""
    x, shape = node.need(0), node.ints(1, "shape")
    full = broadcast_shape(x.shape, shape or [])
    return compute(full, x.dtype, broadcast_to(x, full), [x], "expand")


@op("Tile", since=6, kind="injective")
def tile(node: Node) -> Tensor:
    """The input repeated along each axis."""
    x, repeats = node.need(0), node.ints(1, "repeats") or []
    if len(repeats) != x.ndim:
        raise Unsupported(f"{len(repeats)} repeats for {x.ndim} dimensions", "one repeat an axis")
    shape = [simplify(d * r) for d, r in zip(x.shape, repeats, strict=True)]

    def element(*i: Index) -> tirx.Expr:
        once = [isinstance(r, int) and r == 1 for r in repeats]
        return x(*[k if o else floormod(as_expr(k), as_expr(d)) for k, o, d in zip(i, once, x.shape, strict=True)])

    return compute(shape, x.dtype, element, [x], "tile")


@op("Pad", since=2, kind="injective")
def pad(node: Node) -> Tensor:
    """Elements added (or, negative, taken away) around the input: constant, reflect, edge or wrap."""
    x = node.need(0)
    mode = node.attr("mode", "constant")
    amounts = node.attr("pads") if node.attr("pads") is not None else node.ints(1, "pads")
    fill: tirx.Expr | Tensor = as_expr(0, x.dtype) if x.dtype != "bool" else tirx.const(False, "bool")
    given = node.input(2)
    if given is not None:
        fill = given
    elif node.attr("value") is not None:
        fill = as_expr(float(node.attr("value")), x.dtype)
    axes = node.ints(3, "axes")
    axes = axes_of(axes, x.ndim) if axes is not None else list(range(x.ndim))
    before: list[Index] = [0] * x.ndim
    after: list[Index] = [0] * x.ndim
    for k, axis in enumerate(axes):
        before[axis], after[axis] = amounts[k], amounts[len(axes) + k]  # type: ignore[index]
    shape = [simplify(b + d + a) for b, d, a in zip(before, x.shape, after, strict=True)]
    touched = [not (_is_zero(b) and _is_zero(a)) for b, a in zip(before, after, strict=True)]
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"Pad with mode {mode}", "constant, reflect, edge or wrap")
    if mode != "constant" and any(t and isinstance(d, int) and d == 0 for t, d in zip(touched, x.shape, strict=True)):
        raise Unsupported(f"Pad with mode {mode} of an empty axis", "a non-empty axis")

    def element(*i: Index) -> tirx.Expr:
        at = [as_expr(k) - b if t else k for k, b, t in zip(i, before, touched, strict=True)]
        if mode == "constant":
            padded = [(k, d) for k, d, t in zip(at, x.shape, touched, strict=True) if t]
            tests = [c for k, d in padded for c in (as_expr(k) >= 0, as_expr(k) < as_expr(d))]
            other = fill(*[0] * fill.ndim) if isinstance(fill, Tensor) else fill
            return tirx.if_then_else(both(tests), x(*at), other) if tests else x(*at)
        dims = zip(at, x.shape, touched, strict=True)
        return x(*[_mirrored(mode, as_expr(k), as_expr(d)) if t else k for k, d, t in dims])

    return compute(shape, x.dtype, element, [x, *([fill] if isinstance(fill, Tensor) else [])], "pad")


def _mirrored(mode: str, k: tirx.Expr, size: tirx.Expr) -> tirx.Expr:
    """Where position `k`, perhaps outside [0, size), is read."""
    if mode == "wrap":
        return tirx.floormod(k, size)
    if mode == "edge":
        return tirx.max(tirx.min(k, size - 1), as_expr(0))
    period = tirx.max(2 * (size - 1), as_expr(1))
    inside = tirx.floormod(k, period)
    return tirx.min(inside, tirx.max(period - inside, as_expr(0))) if mode == "reflect" else inside


@op("DepthToSpace", since=1, kind="injective")
def depth_to_space(node: Node) -> Tensor:
    """[N, C, H, W] to [N, C/b², H·b, W·b]; mode DCR or CRD says which part of C is the block."""
    x, b = node.need(0), int(node.attr("blocksize"))
    n, c, h, w = x.shape
    if not isinstance(c, int) or c % (b * b):
        raise Unsupported(f"DepthToSpace of {c} channels with blocks of {b}", "channels divisible by the block's area")
    out = c // (b * b)
    crd = node.attr("mode", "DCR") == "CRD"

    def element(i: Index, ch: Index, y: Index, z: Index) -> tirx.Expr:
        dy, dx = floormod(y, b), floormod(z, b)
        source = ch * (b * b) + dy * b + dx if crd else (dy * b + dx) * out + ch
        return x(i, source, floordiv(y, b), floordiv(z, b))

    return compute([n, out, simplify(h * b), simplify(w * b)], x.dtype, element, [x], "depth_to_space")


@op("SpaceToDepth", since=1, kind="injective")
def space_to_depth(node: Node) -> Tensor:
    """[N, C, H, W] to [N, C·b², H/b, W/b]; mode DCR (the default) or CRD says where in the channels the block is."""
    x, b = node.need(0), int(node.attr("blocksize"))
    n, c, h, w = x.shape
    crd = node.attr("mode", "DCR") == "CRD"

    def element(i: Index, ch: Index, y: Index, z: Index) -> tirx.Expr:
        block = floormod(ch, b * b) if crd else floordiv(ch, as_expr(c))
        channel = floordiv(ch, b * b) if crd else floormod(ch, as_expr(c))
        return x(i, channel, y * b + floordiv(block, b), z * b + floormod(block, b))

    return compute([n, simplify(c * b * b), floordiv(h, b), floordiv(w, b)], x.dtype, element, [x], "space_to_depth")


@op("Trilu", since=14, kind="injective")
def trilu(node: Node) -> Tensor:
    """The upper (or lower) triangle from diagonal k on, zero elsewhere."""
    x = node.need(0)
    k = node.input(1)
    upper = bool(node.attr("upper", 1))
    zero = as_expr(0, x.dtype) if x.dtype != "bool" else tirx.const(False, "bool")

    def element(*i: Index) -> tirx.Expr:
        shift = as_expr(0, "int64") if k is None else k(*[0] * k.ndim).astype("int64")
        distance = as_expr(i[-1], "int64") - as_expr(i[-2], "int64")
        return tirx.Select(distance >= shift if upper else distance <= shift, x(*i), zero)

    return compute(x.shape, x.dtype, element, [x, *([k] if k is not None else [])], "trilu")


@op("ConstantOfShape", since=9, kind="injective")
def constant_of_shape(node: Node) -> Tensor:
    """One value everywhere."""
    shape = node.ints(0, "shape") or []
    value = node.attr("value")
    value = np.zeros(1, np.float32) if value is None else np.asarray(value).reshape(-1)
    dtype = value.dtype.name
    held = bool(value[0]) if dtype == "bool" else value[0].item()
    return compute(shape, dtype, lambda *i: tirx.const(held, dtype), [], "constant")


@op("Shape", since=1, kind="injective")
def shape_of(node: Node) -> Tensor:
    """The dimensions from `start` to `end`, as int64."""
    x = node.need(0)
    dims = list(x.shape)[slice(node.attr("start", 0), node.attr("end"))]
    return compute([len(dims)], "int64", lambda i: _pick(i, dims), [], "shape")


@op("Size", since=1, kind="injective")
def size_of(node: Node) -> Tensor:
    """The number of elements, as an int64 scalar."""
    total: Index = 1
    for d in node.need(0).shape:
        total = total * d
    return compute([], "int64", lambda: as_expr(simplify(total), "int64"), [], "size")


def _pick(i: Index, values: Sequence[Index]) -> tirx.Expr:
    result = as_expr(values[-1], "int64")
    for k, value in reversed(list(enumerate(values[:-1]))):
        result = tirx.Select(as_expr(i) == k, as_expr(value, "int64"), result)
    return result
