"""Layer, RMS, group and instance normalisation over contiguous rows; the variance in its own pass, for accuracy."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from targets.target import Target

from .access import is_zero
from .builder import Builder
from .loops import span
from .registry import Call, template
from .row_tail import Rows, fits, normal_axis
from .rows import reduce_row
from .stage import Stage
from .tensor import Index, Tensor, as_expr, product, simplify


@template("LayerNormalization")
def layer_norm(call: Call, target: Target) -> list[Stage] | None:
    """(x - mean) / sqrt(var + epsilon) * scale + bias over the axes from attr axis on. Inputs X, Scale, B?."""
    return _row_norm(call, target, centred=True)


@template("RMSNormalization")
def rms_norm(call: Call, target: Target) -> list[Stage] | None:
    """x / sqrt(mean(x^2) + epsilon) * scale. Inputs X, Scale."""
    return _row_norm(call, target, centred=False)


def _row_norm(call: Call, target: Target, centred: bool) -> list[Stage] | None:
    axis = normal_axis(call)
    x, scale = call.need(0), call.need(1)
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    if not fits(call, axis) or not (_is_row(scale, x, axis) and (bias is None or _is_row(bias, x, axis))):
        return None
    b = Builder(f"{call.op.lower()}_rows_{x.dtype}_{target.name}")
    with b:
        rows = Rows(b, call, axis)
        n = rows.length
        weight, offset = b.arg(scale, [n]), None if bias is None else b.arg(bias, [n])
        with rows.each() as row:
            mean, factor = _moments(b, rows, n, lambda k: rows.load(row, k), target, call, centred)

            def element(k: tirx.Expr) -> tirx.Expr:
                value = rows.load(row, k)
                value = (value - mean if mean is not None else value) * factor * as_expr(weight[k], rows.dtype)
                return value if offset is None else value + as_expr(offset[k], rows.dtype)

            span(b, n, target.lanes(rows.dtype), lambda k: rows.store(row, k, element(k)))
    return [b.stage()]


def _moments(
    b: Builder, rows: Rows, n: Index, load: Callable, target: Target, call: Call, centred: bool = True
) -> tuple[tirx.Expr | None, tirx.Expr]:
    """The mean (None where not centred) and 1 / sqrt(variance + epsilon)."""
    dtype, lanes = rows.dtype, target.lanes(rows.dtype)
    share = tirx.const(1, dtype) / as_expr(n, dtype) if not isinstance(n, int) else tirx.const(1 / n, dtype)
    share = b.let(share, "share")
    mean = b.let(reduce_row(b, "sum", dtype, lanes, n, load) * share, "mean") if centred else None

    def squared(k: tirx.Expr) -> tirx.Expr:
        d = b.let(load(k) - mean if mean is not None else load(k), "d")
        return d * d

    variance = reduce_row(b, "sum", dtype, lanes, n, squared) * share
    epsilon = tirx.const(float(call.attrs.get("epsilon", 1e-5)), dtype)
    return mean, b.let(tirx.const(1, dtype) / tirx.sqrt(variance + epsilon), "factor")


@template("InstanceNormalization")
def instance_norm(call: Call, target: Target) -> list[Stage] | None:
    """Each channel of [N, C, *spatial] by itself. Inputs X, scale [C], B [C]."""
    return _group_norm(call, target, None)


@template("GroupNormalization")
def group_norm(call: Call, target: Target) -> list[Stage] | None:
    """attr num_groups groups of channels of [N, C, *spatial]. Inputs X, scale and bias [C] (opset 18: [num_groups])."""
    return _group_norm(call, target, int(call.attrs["num_groups"]))


def _group_norm(call: Call, target: Target, groups: int | None) -> list[Stage] | None:
    x, scale, bias = (call.need(i) for i in range(3))
    if x.ndim < 3 or not fits(call, 2) or not isinstance(x.shape[1], int):
        return None
    channels = x.shape[1]
    groups = groups or channels
    size = channels // groups
    if scale.shape[0] not in (groups, channels) or not (isinstance(scale.shape[0], int) and bias.shape == scale.shape):
        return None
    b = Builder(f"{call.op.lower()}_{x.dtype}_{target.name}")
    with b:
        rows = Rows(b, call, 2)
        spatial = rows.length
        rows.outer = [x.shape[0], groups]
        lanes = target.lanes(rows.dtype)
        weight, offset = b.arg(scale), b.arg(bias)
        with rows.each() as (image, group):
            first = b.let(as_expr(group, "int64") * size, "first")
            # a group's channels lie one after the other: one row of size * spatial elements
            mean, factor = _moments(
                b, rows, simplify(product([size, spatial])), lambda k: rows.load([image, first], k), target, call
            )
            with b.serial(size, "c") as c:
                channel = b.let(first + c, "channel")
                which = channel if scale.shape[0] == channels else group
                a = b.let(factor * as_expr(weight[which], rows.dtype), "a")
                shift = b.let(as_expr(offset[which], rows.dtype) - mean * a, "shift")
                at = [image, channel]
                span(b, spatial, lanes, lambda k: rows.store(at, k, rows.load(at, k) * a + shift))
    return [b.stage()]


def _is_row(scale: Tensor, x: Tensor, axis: int) -> bool:
    """Whether `scale` has one value for each element of a row."""
    wanted = x.shape[axis:]
    return scale.ndim == len(wanted) and all(is_zero(a - b) for a, b in zip(wanted, scale.shape, strict=True))
