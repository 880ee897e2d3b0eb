"""Einsum with a constant equation, as a reduction over the labels that the result lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, reduce

from .elementwise import broadcast_shape
from .numbers import cast, wide
from .registry import Node, Unsupported, op


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The label of each axis of each operand, and of the result.

    An ellipsis stands for labels ".0", ".1", ... from the back. Raises Unsupported for an equation that
    does not fit operands of these ranks.
    """
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    shown = f"equation {equation!r} for operands of {list(ranks)} dimensions"
    wrong = Unsupported(shown, "one label for each dimension")
    if len(terms) != len(ranks):
        raise wrong
    operands = []
    for term, rank in zip(terms, ranks, strict=True):
        dots = rank - len(term.replace("...", ""))
        if dots < 0 or ("..." not in term and dots):
            raise wrong
        operands.append(_labels(term, dots, equation))
    most = max((int(x[1:]) + 1 for term in operands for x in term if x[0] == "."), default=0)
    if arrow:
        result = _labels(right, most, equation)
    else:
        flat = [x for term in operands for x in term]
        result = [*_labels("...", most, equation), *sorted(x for x in set(flat) if flat.count(x) == 1 and x[0] != ".")]
    known = {x for term in operands for x in term}
    if len(set(result)) != len(result) or not set(result) <= known:
        raise wrong
    return operands, result


def _labels(term: str, dots: int, equation: str) -> list[str]:
    head, ellipsis, tail = term.partition("...")
    if not (head + tail).isalpha() and head + tail:
        raise Unsupported(f"equation {equation!r}", "letters, an ellipsis, commas and ->")
    inner = [f".{d}" for d in reversed(range(dots))] if ellipsis else []
    return [*head, *inner, *tail]


@op("Einsum", since=12)
def einsum(node: Node) -> Tensor:
    """Products of the operands' elements summed over the labels missing from the result; halves sum in float32.

    All operands are combined in one loop nest: right for any number of them, fast for one or two.
    """
    operands = [node.need(i) for i in range(len(node.inputs))]
    labels, result = parse(node.attr("equation"), [t.ndim for t in operands])
    sizes: dict[str, Index] = {}
    for t, term in zip(operands, labels, strict=True):
        for label, dim in zip(term, t.shape, strict=True):
            sizes[label] = broadcast_shape([sizes.get(label, 1)], [dim])[0]
    dtype = operands[0].dtype
    if any(t.dtype != dtype for t in operands) or dtype == "bool":
        raise Unsupported(f"operands of {[t.dtype for t in operands]}", "numbers of one type")
    summed = [x for x in sizes if x not in result]
    acc = wide(dtype)

    def value(at: dict[str, Index]) -> tirx.Expr:
        factors = []
        for t, term in zip(operands, labels, strict=True):
            place = [as_expr(0) if isinstance(d, int) and d == 1 else at[x] for x, d in zip(term, t.shape, strict=True)]
            factors.append(t(*place).astype(acc))
        return factors[0] if len(factors) == 1 else math.prod(factors[1:], start=factors[0])

    shape = [sizes[x] for x in result]
    if not summed:
        return compute(
            shape, dtype, lambda *i: value(dict(zip(result, i, strict=True))).astype(dtype), operands, "einsum"
        )  # fmt: skip
    total = reduce(
        shape, acc, [sizes[x] for x in summed], "sum",
        lambda i, r: value(dict(zip([*result, *summed], [*i, *r], strict=True))), operands, name="einsum",
    )  # fmt: skip
    return cast(total, dtype)
