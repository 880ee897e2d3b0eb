"""Resize and Upsample: nearest, linear and cubic, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, same_dim

from . import mathfn
from .interpolate import Axis, kernel, nearest, resample
from .numbers import number, stored
from .registry import Node, Unsupported, op
from .shapes import axis_of

MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear", "cubic": "cubic"}


@op("Upsample", since=7)
def upsample(node: Node) -> Tensor:
    """Scales as an attribute (opset 7) or as input 1 (opset 9)."""
    x = node.need(0)
    scales = node.attr("scales") or _scales(node, 1)
    if scales is None:
        raise Unsupported("scales are missing")
    return _resize(node, x, list(range(x.ndim)), scales, None, "asymmetric", "floor")


@op("Resize", since=10)
def resize_10(node: Node) -> Tensor:
    """X, scales."""
    x, scales = node.need(0), _scales(node, 1)
    if scales is None:
        raise Unsupported("scales are missing")
    return _resize(node, x, list(range(x.ndim)), scales, None, "asymmetric", "floor")


@op("Resize", since=11)
def resize(node: Node) -> Tensor:
    """X, roi, scales, sizes."""
    x = node.need(0)
    axes = [axis_of(int(a), x.ndim) for a in node.attr("axes") or range(x.ndim)]
    scales = _scales(node, 2)
    sizes = None if scales is not None else node.ints(3, "sizes")
    if scales is None and not sizes:
        raise Unsupported("neither scales nor sizes")
    rules = node.attr("coordinate_transformation_mode", "half_pixel"), node.attr("nearest_mode", "round_prefer_floor")
    return _resize(node, x, axes, scales, sizes, *rules)


@op("Resize2d", domain="edgert")
def resize2d(node: Node) -> Tensor:
    """x [N, H, W, C]; attributes of Resize, `scales` (of H and W) and output_shape [OH, OW]."""
    x = node.need(0)
    rules = node.attr("coordinate_transformation_mode", "half_pixel"), node.attr("nearest_mode", "round_prefer_floor")
    scales, sizes = node.attr("scales"), node.attr("output_shape")
    return _resize(node, x, [1, 2], scales, None if scales else sizes, *rules)


def _scales(node: Node, i: int) -> list[float] | None:
    """The scales input; None when omitted or empty. Raises Unsupported when only known at run time."""
    given = node.input(i)
    if given is None or any(isinstance(d, int) and d == 0 for d in given.shape):
        return None
    value = node.const(i)
    if value is None:
        raise Unsupported("scales must be known at compile time", f"{node.op} with constant scales")
    return [float(v) for v in value.reshape(-1)]


def _resize(
    node: Node, x: Tensor, axes: Sequence[int], scales: Sequence[float] | None, sizes: Sequence[Index] | None,
    coordinates: str, rounding: str,
) -> Tensor:  # fmt: skip
    mode = MODES.get(node.attr("mode", "nearest"))
    if mode is None:
        raise Unsupported(f"mode {node.attr('mode')}", "nearest, linear or cubic")
    given = scales if scales is not None else sizes
    if given is None or len(given) != len(axes):
        raise Unsupported("as many scales or sizes as axes are needed")
    plan: list[tuple[int, Axis]] = []
    factors, goals = _geometry(node, [x.shape[a] for a in axes], scales, sizes)
    roi = node.input(1) if coordinates == "tf_crop_and_resize" else None
    if coordinates == "tf_crop_and_resize" and roi is None:
        raise Unsupported("tf_crop_and_resize without roi")
    for k, a in enumerate(axes):
        if roi is None and factors[k] == 1.0 and same_dim(goals[k], x.shape[a]):
            continue
        region = None
        if roi is not None:
            region = (_reader(roi, k), _reader(roi, len(axes) + k))
        size, goal = number(x.shape[a], "a resized dimension"), number(goals[k], "a resized dimension")
        precise = "float32" if mode == "nearest" else "float64"
        plan.append((a, Axis(size, goal, factors[k], coordinates, region, precise)))
    extra = [roi] if roi is not None else []
    fill = float(node.attr("extrapolation_value", 0.0))
    if mode == "nearest":
        return _nearest(x, plan, rounding, extra, fill)
    exclude, antialias = bool(node.attr("exclude_outside", 0)), bool(node.attr("antialias", 0))
    acc = "float32" if x.dtype in ("float16", "bfloat16", "float32") else "float64"
    result = x
    for a, axis in plan:
        kern = kernel(mode, axis.scale, antialias, float(node.attr("cubic_coeff_a", -0.75)), exclude)
        result = resample(result, a, axis, kern, exclude, acc, extra, fill)
    if result.dtype == x.dtype:
        return compute(x.shape, x.dtype, x, [x], "resize") if result is x else result
    return compute(result.shape, x.dtype, lambda *i: _rounded(result(*i), x.dtype), [result], "resize")


def _rounded(value: tirx.Expr, dtype: str) -> tirx.Expr:
    if mathfn.is_float(dtype):
        return value.astype(dtype)
    return mathfn.saturate(mathfn.round_even(value), dtype)


def _reader(roi: Tensor, i: int) -> Callable[[], tirx.Expr]:
    return lambda: roi(as_expr(i))


def _geometry(
    node: Node, dims: Sequence[Index], scales: Sequence[float] | None, sizes: Sequence[Index] | None
) -> tuple[list[float], list[Index]]:
    """The scale and the output extent of each resized axis."""
    if scales is not None:
        goals: list[Index] = []
        for d, s in zip(dims, scales, strict=True):
            if s == int(s):
                goals.append(d * int(s))
            else:
                goals.append(int(number(d, "a dimension with a fractional scale") * s))
        return list(scales), goals
    assert sizes is not None
    known = [number(d, "a resized dimension") if not same_dim(d, s) else None for d, s in zip(dims, sizes, strict=True)]
    factors = [1.0 if d is None else number(s, "sizes") / d for d, s in zip(known, sizes, strict=True)]
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return factors, list(sizes)
    if policy not in ("not_larger", "not_smaller"):
        raise Unsupported(f"keep_aspect_ratio_policy {policy}", "stretch")
    common = min(factors) if policy == "not_larger" else max(factors)
    return [common] * len(dims), [int(common * number(d, "a resized dimension") + 0.5) for d in dims]


def _nearest(x: Tensor, plan: list[tuple[int, Axis]], rounding: str, extra: list[Tensor], fill: float) -> Tensor:
    """Copies whole pixels: the positions are looked up in one small table an axis."""
    shape = list(x.shape)
    coordinates, places = {}, {}
    for a, axis in plan:
        shape[a] = axis.out
        coordinates[a] = axis.table(extra)
        places[a] = _places(axis, coordinates[a], rounding)

    def fn(*i: Index) -> tirx.Expr:
        value = x(*[places[a](y).astype("int64") if a in places else y for a, y in enumerate(i)])
        for a, axis in plan:
            outside = axis.outside(coordinates[a](i[a]))
            if outside is not None:
                value = tirx.if_then_else(outside, mathfn.const(fill, x.dtype), value)
        return value

    return compute(shape, x.dtype, fn, [x, *coordinates.values(), *places.values()], "resize_nearest")


def _places(axis: Axis, coordinates: Tensor, rounding: str) -> Tensor:
    def place(y: Index) -> tirx.Expr:
        return nearest(axis, coordinates(y), rounding).astype("int32")  # not all devices have 64-bit integers

    return stored((axis.out,), "int32", place, [coordinates], "places")
