"""Classification losses: negative log-likelihood, softmax cross entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Scalar, Tensor, as_expr, compute, reduce

from . import mathfn
from .numbers import cast, clamp, equal, need_float, wide
from .registry import Node, Unsupported, op


@op("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(node: Node) -> Tensor:
    """input [N, C, ...] of log-probabilities, target [N, ...], weight [C]."""
    x, target, weight = node.need(0), node.need(1), node.input(2)
    acc = wide(need_float(x.dtype, node.op))
    return _loss(node, lambda n, c, *d: x(n, c, *d).astype(acc), [x], target, weight, x, acc)


@op("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(node: Node) -> list[Tensor | None]:
    """scores [N, C, ...], labels [N, ...], weights [C] -> loss, log_prob."""
    x, target, weight = node.need(0), node.need(1), node.input(2)
    acc = wide(need_float(x.dtype, node.op))
    log_prob = _log_softmax(x, acc)
    results: list[Tensor | None] = [_loss(node, log_prob, [log_prob], target, weight, x, acc)]
    if len(node.outputs) > 1:
        results.append(cast(_log_softmax(x, acc), x.dtype) if node.outputs[1] else None)
    return results


def _log_softmax(x: Tensor, acc: str) -> Tensor:
    """x - max - log(sum e^(x - max)) over axis 1."""
    row = (x.shape[0], *x.shape[2:])
    classes = [x.shape[1]]
    most = reduce(row, acc, classes, "max", lambda i, r: x(i[0], r[0], *i[1:]).astype(acc), [x], None, "most")

    def power(i: Sequence[Index], r: tuple) -> Scalar:
        return mathfn.exp(x(i[0], r[0], *i[1:]).astype(acc) - most(*i))

    total = reduce(row, acc, classes, "sum", power, [x, most], lambda v, *_: mathfn.log(v), "log_sum")
    return compute(
        x.shape,
        acc,
        lambda n, c, *d: x(n, c, *d).astype(acc) - most(n, *d) - total(n, *d),
        [x, most, total],
        "log_softmax",
    )


def _loss(
    node: Node, log_prob: Callable[..., Scalar], sources: list[Tensor], target: Tensor, weight: Tensor | None,
    x: Tensor, acc: str,
) -> Tensor:  # fmt: skip
    ignore = node.attr("ignore_index")
    how = node.attr("reduction", "mean")
    if how not in ("none", "sum", "mean"):
        raise Unsupported(f"reduction {how}", "none, sum or mean")
    zero, one = tirx.const(0, acc), tirx.const(1, acc)
    used = [*sources, target, *([] if weight is None else [weight])]

    def label(i: Sequence[Index]) -> Scalar:
        return as_expr(clamp(target(*i).astype("int64"), 0, x.shape[1] - 1))

    def unless_ignored(i: Sequence[Index], value: Callable[[], Scalar]) -> Scalar:
        if ignore is None:
            return value()
        return tirx.if_then_else(equal(target(*i).astype("int64"), as_expr(int(ignore), "int64")), zero, value())

    def weight_of(i: Sequence[Index]) -> Scalar:
        return one if weight is None else weight(label(i)).astype(acc)

    def loss(i: Sequence[Index]) -> Scalar:
        return unless_ignored(i, lambda: (zero - log_prob(i[0], label(i), *i[1:])) * weight_of(i))

    if how == "none":
        return compute(target.shape, x.dtype, lambda *i: loss(i).astype(x.dtype), used, "loss")
    total = reduce((), acc, target.shape, "sum", lambda _, r: loss(r), used, None, "loss_sum")
    if how == "sum":
        return cast(total, x.dtype)
    count = reduce(
        (), acc, target.shape, "sum", lambda _, r: unless_ignored(r, lambda: weight_of(r)), used, None, "weights"
    )
    return compute((), x.dtype, lambda: (total() / count()).astype(x.dtype), [total, count], "loss_mean")
