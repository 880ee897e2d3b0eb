"""Normalisation: statistics over some axes, then scale and bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, product, reduce

from . import mathfn
from .elementwise import broadcast_to
from .numbers import floordiv, need_float, number, wide
from .pool import lp
from .registry import Node, Unsupported, op
from .shapes import axis_of
from .window import Window


def mean_over(
    x: Tensor, axes: Sequence[int], value: Callable[..., tirx.Expr], acc: str, name: str, of: Sequence = ()
) -> Tensor:
    """The mean of `value(*indices of x)` over `axes`, which stay with extent 1."""
    axes = list(axes)
    shape = [1 if a in axes else d for a, d in enumerate(x.shape)]
    count = as_expr(product([x.shape[a] for a in axes]), "int64").astype(acc)

    def body(i: tuple, r: tuple) -> tirx.Expr:
        at = list(i)
        for a, k in zip(axes, r, strict=True):
            at[a] = k
        return value(*at)

    return reduce(
        shape, acc, [x.shape[a] for a in axes], "sum", body, [x, *of], lambda total, *_: total / count, name
    )  # fmt: skip


def moments(x: Tensor, axes: Sequence[int], acc: str) -> tuple[Tensor, Tensor]:
    """Mean and (population) variance over `axes`, kept with extent 1. Two passes: the one-pass formula cancels."""
    mean = mean_over(x, axes, lambda *i: x(*i).astype(acc), acc, "mean")
    at_mean = broadcast_to(mean, x.shape)

    def squared(*i: Index) -> tirx.Expr:
        d = x(*i).astype(acc) - at_mean(*i)
        return d * d

    return mean, mean_over(x, axes, squared, acc, "variance", [mean])


def inverse_deviation(variance: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(variance + epsilon)."""
    acc = variance.dtype
    one, eps = tirx.const(1, acc), tirx.const(epsilon, acc)
    return compute(variance.shape, acc, lambda *i: one / tirx.sqrt(variance(*i) + eps), [variance], "inverse_deviation")


def normalised(
    x: Tensor, mean: Tensor | None, inverse: Tensor, scale: Callable | None, bias: Callable | None,
    parameters: Sequence[Tensor | None], acc: str,
) -> Tensor:  # fmt: skip
    """(x - mean) * inverse * scale + bias in x's type; scale and bias are readers at x's indices."""
    at_inverse = broadcast_to(inverse, x.shape)
    at_mean = broadcast_to(mean, x.shape) if mean is not None else None

    def fn(*i: Index) -> tirx.Expr:
        value = x(*i).astype(acc)
        if at_mean is not None:
            value = value - at_mean(*i)
        value = value * at_inverse(*i)
        if scale is not None:
            value = value * scale(*i).astype(acc)
        if bias is not None:
            value = value + bias(*i).astype(acc)
        return value.astype(x.dtype)

    used = [t for t in (x, mean, inverse, *parameters) if t is not None]
    return compute(x.shape, x.dtype, fn, used, "normalised")


def per_channel(t: Tensor | None) -> Callable | None:
    """A reader of a vector over axis 1."""
    return None if t is None else lambda *i: t(i[1])


@op("BatchNormalization", since=7)
def batch_normalization(node: Node) -> list[Tensor | None]:
    """X [N, C, ...]: inference, or with training_mode=1 from the batch's own statistics (opset 14 on)."""
    x, scale, bias, mean, variance = (node.need(i) for i in range(5))
    epsilon = node.attr("epsilon", 1e-5)
    acc = wide(need_float(x.dtype, node.op))
    if acc != "float64" and "float64" in (mean.dtype, variance.dtype):
        acc = "float64"
    extra = [t for i, t in enumerate([None, mean, variance]) if i and i < len(node.outputs) and node.outputs[i]]
    if not node.attr("training_mode", 0):
        if extra:
            raise Unsupported("statistics as outputs without training_mode", "one output")
        eps = tirx.const(epsilon, acc)

        def fn(*i: Index) -> tirx.Expr:
            c = i[1] if x.ndim > 1 else 0
            factor = scale(c).astype(acc) / tirx.sqrt(variance(c).astype(acc) + eps)
            return ((x(*i).astype(acc) - mean(c).astype(acc)) * factor + bias(c).astype(acc)).astype(x.dtype)

        return [compute(x.shape, x.dtype, fn, [x, scale, bias, mean, variance], "batch_norm")]
    if x.ndim < 2:
        raise Unsupported("training_mode on a vector")
    momentum = node.attr("momentum", 0.9)
    axes = [0, *range(2, x.ndim)]
    now, spread = moments(x, axes, acc)
    y = normalised(
        x, now, inverse_deviation(spread, epsilon), per_channel(scale), per_channel(bias), [scale, bias], acc
    )

    def running(old: Tensor, new: Tensor) -> Tensor:
        at = lambda c: [as_expr(0), c, *[as_expr(0)] * (x.ndim - 2)]  # noqa: E731
        return compute(
            old.shape, old.dtype,
            lambda c: (old(c).astype(acc) * tirx.const(momentum, acc)
                       + new(*at(c)) * tirx.const(1 - momentum, acc)).astype(old.dtype),
            [old, new], "running",
        )  # fmt: skip

    fresh = moments(x, axes, acc)  # expressions of their own for outputs of their own
    results: list[Tensor | None] = [y, running(mean, fresh[0]), running(variance, moments(x, axes, acc)[1])]
    return results[: len(node.outputs)]


@op("InstanceNormalization", since=6)
def instance_normalization(node: Node) -> Tensor:
    """X [N, C, ...]: each channel of each sample by its own mean and variance."""
    x, scale, bias = node.need(0), node.need(1), node.need(2)
    acc = wide(need_float(x.dtype, node.op))
    mean, variance = moments(x, range(2, x.ndim), acc)
    inverse = inverse_deviation(variance, node.attr("epsilon", 1e-5))
    return normalised(x, mean, inverse, per_channel(scale), per_channel(bias), [scale, bias], acc)


def _stash(node: Node, x: Tensor) -> str:
    """The type the statistics are computed in: attribute stash_type, never narrower than x's."""
    kind = {1: "float32", 11: "float64", 10: "float32", 16: "float32"}.get(int(node.attr("stash_type", 1)))
    if kind is None:
        raise Unsupported(f"stash_type {node.attr('stash_type')}", "stash_type 1 (float32)")
    return "float64" if x.dtype == "float64" else kind


@op("LayerNormalization", since=17)
def layer_normalization(node: Node) -> list[Tensor | None]:
    """Y, and Mean and InvStdDev (of the stash type) where wanted."""
    x, scale, bias = node.need(0), node.need(1), node.input(2)
    need_float(x.dtype, node.op)
    acc, axis = _stash(node, x), axis_of(int(node.attr("axis", -1)), x.ndim)
    mean, variance = moments(x, range(axis, x.ndim), acc)
    inverse = inverse_deviation(variance, node.attr("epsilon", 1e-5))
    scale_at = broadcast_to(scale, x.shape)
    bias_at = broadcast_to(bias, x.shape) if bias is not None else None
    results: list[Tensor | None] = [normalised(x, mean, inverse, scale_at, bias_at, [scale, bias], acc)]
    for index, wanted in enumerate(node.outputs[1:]):
        if not wanted:
            results.append(None)
            continue
        again = moments(x, range(axis, x.ndim), acc)
        results.append(again[0] if index == 0 else inverse_deviation(again[1], node.attr("epsilon", 1e-5)))
    return results


@op("RMSNormalization", since=23)
def rms_normalization(node: Node) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * scale over the axes from `axis` on."""
    x, scale = node.need(0), node.need(1)
    need_float(x.dtype, node.op)
    acc, axis = _stash(node, x), axis_of(int(node.attr("axis", -1)), x.ndim)

    def squared(*i: Index) -> tirx.Expr:
        value = x(*i).astype(acc)
        return value * value

    square = mean_over(x, range(axis, x.ndim), squared, acc, "mean_square")
    inverse = inverse_deviation(square, node.attr("epsilon", 1e-5))
    return normalised(x, None, inverse, broadcast_to(scale, x.shape), None, [scale], acc)


@op("GroupNormalization", since=18)
def group_normalization(node: Node) -> Tensor:
    """scale and bias per group in opset 18, per channel from 21 on."""
    x, scale, bias = node.need(0), node.need(1), node.need(2)
    need_float(x.dtype, node.op)
    acc, groups = _stash(node, x), int(node.attr("num_groups"))
    channels = number(x.shape[1], "channels")
    if channels % groups:
        raise Unsupported(f"{channels} channels in {groups} groups")
    per = channels // groups
    rest = x.shape[2:]
    parts = compute(
        (x.shape[0], groups, per, *rest), acc,
        lambda n, g, c, *at: x(n, as_expr(g) * per + c, *at).astype(acc), [x], "grouped",
    )  # fmt: skip
    mean, variance = moments(parts, range(2, parts.ndim), acc)
    inverse = inverse_deviation(variance, node.attr("epsilon", 1e-5))
    by_group = node.version < 21

    def fn(*i: Index) -> tirx.Expr:
        g = floordiv(i[1], per)
        place = (i[0], g, *[as_expr(0)] * (parts.ndim - 2))
        c = g if by_group else i[1]
        value = (x(*i).astype(acc) - mean(*place)) * inverse(*place)
        return (value * scale(c).astype(acc) + bias(c).astype(acc)).astype(x.dtype)

    return compute(x.shape, x.dtype, fn, [x, mean, inverse, scale, bias], "group_norm")


@op("MeanVarianceNormalization", since=9)
def mean_variance_normalization(node: Node) -> Tensor:
    """(X - mean) / (sqrt(variance) + 1e-9), as the operator's function body has it."""
    x = node.need(0)
    acc = wide(need_float(x.dtype, node.op))
    axes = [axis_of(a, x.ndim) for a in node.attr("axes") or [0, 2, 3]]
    mean, variance = moments(x, axes, acc)
    one, tiny = tirx.const(1, acc), tirx.const(1e-9, acc)
    inverse = compute(
        variance.shape, acc, lambda *i: one / (tirx.sqrt(variance(*i)) + tiny), [variance], "inverse_deviation"
    )
    return normalised(x, mean, inverse, None, None, [], acc)


@op("LpNormalization", since=1)
def lp_normalization(node: Node) -> Tensor:
    """x / its p-norm along axis; zero where the norm is zero."""
    x = node.need(0)
    acc = wide(need_float(x.dtype, node.op))
    axis = axis_of(int(node.attr("axis", -1)), x.ndim)
    power, root = lp(int(node.attr("p", 2)), acc)
    shape = [1 if a == axis else d for a, d in enumerate(x.shape)]

    def at(i: Sequence[Index], k: Index) -> tuple:
        return (*i[:axis], k, *i[axis + 1 :])

    norm = reduce(
        shape, acc, [x.shape[axis]], "sum", lambda i, k: power(x(*at(i, k[0])).astype(acc)), [x],
        lambda total, *_: root(total), "norm",
    )  # fmt: skip
    zero = tirx.const(0, acc)

    def fn(*i: Index) -> tirx.Expr:
        n = norm(*at(i, as_expr(0)))
        return tirx.if_then_else(n > zero, x(*i).astype(acc) / n, zero).astype(x.dtype)

    return compute(x.shape, x.dtype, fn, [x, norm], "lp_normalization")


@op("LRN", since=1)
def lrn(node: Node) -> Tensor:
    """Local response normalisation over `size` neighbouring channels (Krizhevsky et al. 2012, section 3.3)."""
    x = node.need(0)
    acc = wide(need_float(x.dtype, node.op))
    size = int(node.attr("size"))
    alpha, beta, bias = node.attr("alpha", 1e-4), node.attr("beta", 0.75), node.attr("bias", 1.0)
    low = (size - 1) // 2
    win = Window((x.shape[1],), (size,), (1,), (1,), (low,), (size - 1 - low,), (x.shape[1],))

    def body(i: tuple, k: tuple) -> tirx.Expr:
        (c,) = win.position([i[1]], k)
        value = x(i[0], c, *i[2:]).astype(acc)
        return tirx.if_then_else(win.inside([c]), value * value, tirx.const(0, acc))

    squares = reduce(x.shape, acc, [size], "sum", body, [x], None, "squares")
    factor, offset = tirx.const(alpha / size, acc), tirx.const(bias, acc)

    def fn(*i: Index) -> tirx.Expr:
        # s^-beta as exp(-beta log s): s is positive
        shrunk = mathfn.exp(mathfn.log(offset + factor * squares(*i)) * tirx.const(-beta, acc))
        return (x(*i).astype(acc) * shrunk).astype(x.dtype)

    return compute(x.shape, x.dtype, fn, [x, squares], "lrn")
