"""Reductions over axes: ReduceSum and its kin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx

from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, product, reduce

from . import mathfn as fn
from .numbers import FLOATS, cast, wide
from .registry import Node, Unsupported, op
from .shapes import axes_of

Function = Callable[[Scalar], Scalar]


def reduced_axes(node: Node, x: Tensor) -> list[int] | None:
    """The axes to reduce, sorted; None when nothing is to be done (noop_with_empty_axes)."""
    axes = node.attr("axes")
    if axes is None:
        axes = node.ints(1, "axes")
    if not axes:
        return None if node.attr("noop_with_empty_axes", 0) else list(range(x.ndim))
    return sorted(axes_of(list(axes), x.ndim))


def reduce_axes(
    x: Tensor, axes: list[int], keep: bool, kind: str, dtype: str,
    body: Callable[[tirx.Expr], tirx.Expr] | None = None, finish: Callable[..., tirx.Expr] | None = None,
) -> Tensor:  # fmt: skip
    """Combines `body(x)` over `axes`; keep: reduced axes stay with size 1."""
    shape = [1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes]

    def element(out: tuple, over: tuple) -> tirx.Expr:
        kept = iter([i for i, a in zip(out, range(x.ndim), strict=True) if a not in axes] if keep else out)
        inner = iter(over)
        value = x(*[next(inner) if a in axes else next(kept) for a in range(x.ndim)])
        return value if body is None else body(value)

    return reduce(shape, dtype, [x.shape[a] for a in axes], kind, element, [x], finish, f"reduce_{kind}")


def _reduce(node: Node, kind: str, body: Function | None, after: Function | None, floats: bool) -> Tensor:
    """kind: how elements are combined. body: done to each before. after: done to the result. floats: no others."""
    x = node.need(0)
    if floats and x.dtype not in FLOATS:
        raise Unsupported(f"{node.op} of {x.dtype}", f"{node.op} of float32")
    axes = reduced_axes(node, x)
    if axes is None:
        acc = wide(x.dtype)
        steps = [f for f in (body, after) if f is not None]

        def alone(*i: Index) -> tirx.Expr:
            value = x(*i).astype(acc) if x.dtype != "bool" else x(*i)
            for f in steps:
                value = f(value)
            return value.astype(x.dtype)

        return compute(x.shape, x.dtype, alone, [x], "reduce_none")
    if x.dtype == "bool":
        return reduce_axes(x, axes, bool(node.attr("keepdims", 1)), {"max": "any", "min": "all"}[kind], "bool")
    acc = wide(x.dtype) if kind in ("sum", "prod") or body is not None else x.dtype
    total = reduce_axes(
        x, axes, bool(node.attr("keepdims", 1)), kind, acc,
        lambda v: body(v.astype(acc)) if body else v.astype(acc),
        None if after is None else lambda v, *i: after(v),
    )  # fmt: skip
    return cast(total, x.dtype)


def _square(v: Scalar) -> Scalar:
    return v * v


# How elements are combined, what is done to each before, what to the result, whether it is for floats alone
_SIMPLE: dict[str, tuple[str, Function | None, Function | None, bool]] = {
    "ReduceSum": ("sum", None, None, False),
    "ReduceProd": ("prod", None, None, False),
    "ReduceMax": ("max", None, None, False),
    "ReduceMin": ("min", None, None, False),
    "ReduceL1": ("sum", fn.absolute, None, False),
    "ReduceL2": ("sum", _square, fn.sqrt, True),
    "ReduceSumSquare": ("sum", _square, None, False),
    "ReduceLogSum": ("sum", None, fn.log, True),
}
for _name, (_kind, _body, _after, _floats) in _SIMPLE.items():
    op(_name)(partial(_reduce, kind=_kind, body=_body, after=_after, floats=_floats))


@op("ReduceMean", since=1)
def reduce_mean(node: Node) -> Tensor:
    """The mean; that of integers truncates."""
    x = node.need(0)
    axes = reduced_axes(node, x)
    if axes is None:
        return compute(x.shape, x.dtype, x, [x], "mean")
    acc = wide(x.dtype)
    count = product([x.shape[a] for a in axes])

    def mean(value: tirx.Expr, *i: Index) -> tirx.Expr:
        total = as_expr(count, "int64").astype(acc)
        return value / total if acc in FLOATS else tirx.truncdiv(value, total)

    means = reduce_axes(x, axes, bool(node.attr("keepdims", 1)), "sum", acc, lambda v: v.astype(acc), mean)
    return cast(means, x.dtype)


@op("ReduceLogSumExp", since=1)
def reduce_log_sum_exp(node: Node) -> Tensor:
    """log(sum(exp(x))), shifted by the largest element so that nothing overflows."""
    x = node.need(0)
    if x.dtype not in FLOATS:
        raise Unsupported(f"ReduceLogSumExp of {x.dtype}", "ReduceLogSumExp of float32")
    axes = reduced_axes(node, x)
    if axes is None:
        return compute(x.shape, x.dtype, x, [x], "log_sum_exp")
    acc = wide(x.dtype)
    top = reduce_axes(x, axes, True, "max", acc, lambda v: v.astype(acc))
    at = [(lambda i, a=a: as_expr(0) if a in axes else i[a]) for a in range(x.ndim)]

    def shift(i: tuple) -> tirx.Expr:
        # an infinite maximum would give inf - inf
        value = top(*[f(i) for f in at])
        infinite = tirx.any(value == tirx.infinity(acc), value == -tirx.infinity(acc))
        return tirx.Select(infinite, tirx.const(0, acc), value)

    moved = compute(x.shape, acc, lambda *i: fn.exp(x(*i).astype(acc) - shift(i)), [x, top], "shifted_exp")
    total = reduce_axes(moved, axes, True, "sum", acc)

    def log(*i: Index) -> tirx.Expr:
        return (fn.log(total(*i)) + shift(i)).astype(x.dtype)

    logs = compute(total.shape, x.dtype, log, [total, top], "log_sum_exp")
    if node.attr("keepdims", 1):
        return logs
    kept = [d for a, d in enumerate(x.shape) if a not in axes]

    def squeezed(*i: Index) -> tirx.Expr:
        rest = iter(i)
        return logs(*[as_expr(0) if a in axes else next(rest) for a in range(x.ndim)])

    return compute(kept, x.dtype, squeezed, [logs], "log_sum_exp")
