"""Arithmetic of shape computations on object arrays of ints and int64 expressions; registered in EVALUATORS."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from tvm import tirx

from targets.kernels.tensor import Index, as_expr

from .dims import provable, smallest


class Unknown(ValueError):
    """The result depends on a comparison that the bounds do not decide."""


@dataclass
class Call:
    """One evaluation: input values (None where only the shape counts or omitted), input shapes, attributes, opset."""

    values: list[np.ndarray | None]
    shapes: list[tuple[Index, ...] | None]
    attrs: dict[str, Any]
    version: int

    def value(self, i: int) -> np.ndarray:
        """Input i. Raises ValueError when omitted."""
        value = self.values[i]
        if value is None:
            raise ValueError(f"input {i} is missing")
        return value

    def numbers(self, i: int, attr: str) -> list[int] | None:
        """Input i, or in older opsets the attribute, as plain ints; None when omitted."""
        if attr in self.attrs:
            return [int(v) for v in np.ravel(self.attrs[attr])]
        if i >= len(self.values) or self.values[i] is None:
            return None
        return [number(v) for v in self.value(i).reshape(-1)]


EVALUATORS: dict[str, Callable[[Call], np.ndarray | None]] = {}


def evaluator(*names: str) -> Callable[[Callable], Callable]:
    """Registers a function as the evaluator of operators `names`."""

    def register(fn: Callable[[Call], np.ndarray | None]) -> Callable[[Call], np.ndarray | None]:
        EVALUATORS.update(dict.fromkeys(names, fn))
        return fn

    return register


def number(value: Any) -> int:
    """A value that must be a plain int here. Raises Unknown for an expression."""
    if isinstance(value, tirx.Expr):
        raise Unknown("an axis or index that depends on a symbolic dimension")
    return int(value)


def array(items: list, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An object array of `items` (np.array would try to look into expressions)."""
    result = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        result[i] = item
    return result if shape is None else result.reshape(shape)


def elementwise(fn: Callable, *arrays: np.ndarray) -> np.ndarray:
    """`fn` on corresponding elements of the broadcast arrays; always an array, also of rank 0."""
    spread = np.broadcast_arrays(*arrays)
    return array([fn(*items) for items in zip(*(a.reshape(-1) for a in spread), strict=True)], spread[0].shape)


def decide(condition: Any) -> bool:
    """A condition as True or False. Raises Unknown where the bounds leave it open."""
    known = bool(condition) if not isinstance(condition, tirx.Expr) else provable(condition)
    if known is None:
        raise Unknown("a comparison of symbolic dimensions")
    return known


def truncated_div(a: Index, b: Index) -> Index:
    """Integer division rounding towards zero, as ONNX's Div."""
    if isinstance(b, int) and b == 0:
        raise ValueError("division by zero")
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if smallest(a) >= 0 and smallest(b) > 0:  # rounding down is the same there, and simplifies better
        return tirx.floordiv(as_expr(a, "int64"), as_expr(b, "int64"))
    return tirx.truncdiv(as_expr(a, "int64"), as_expr(b, "int64"))


def modulo(a: Index, b: Index, fmod: int) -> Index:
    """ONNX's Mod: the sign of the divisor, with fmod=1 that of the dividend."""
    if isinstance(b, int) and b == 0:
        raise ValueError("division by zero")
    if isinstance(a, int) and isinstance(b, int):
        return int(np.fmod(a, b)) if fmod else a % b
    return (tirx.truncmod if fmod else tirx.floormod)(as_expr(a, "int64"), as_expr(b, "int64"))


def pick(a: Index, b: Index, smaller: bool) -> Index:
    """min or max of two; one of the two where the bounds decide."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b) if smaller else max(a, b)
    left, right = as_expr(a, "int64"), as_expr(b, "int64")
    known = provable(left <= right)
    if known is not None:
        return a if known == smaller else b
    return tirx.min(left, right) if smaller else tirx.max(left, right)


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": tirx.EQ, "Greater": tirx.GT, "GreaterOrEqual": tirx.GE, "Less": tirx.LT, "LessOrEqual": tirx.LE,
}  # fmt: skip
ON_NUMBERS: dict[str, Callable[[Any, Any], bool]] = {
    "Equal": operator.eq, "Greater": operator.gt, "GreaterOrEqual": operator.ge, "Less": operator.lt,
    "LessOrEqual": operator.le,
}  # fmt: skip


def compare(a: Index, b: Index, op: str) -> bool:
    """Compares two values. Raises Unknown where the bounds leave the answer open."""
    if not isinstance(a, tirx.Expr) and not isinstance(b, tirx.Expr):
        return ON_NUMBERS[op](a, b)
    return decide(COMPARE[op](as_expr(a, "int64"), as_expr(b, "int64")))


def _register_binary(op: str, fn: Callable[[Any, Any], Any]) -> None:
    EVALUATORS[op] = lambda call: elementwise(fn, call.value(0), call.value(1))


def _register_comparison(op: str) -> None:
    _register_binary(op, lambda a, b: compare(a, b, op))


_register_binary("Add", lambda a, b: a + b)
_register_binary("Sub", lambda a, b: a - b)
_register_binary("Mul", lambda a, b: a * b)
_register_binary("Div", truncated_div)
_register_binary("And", lambda a, b: decide(a) and decide(b))
_register_binary("Or", lambda a, b: decide(a) or decide(b))
for _op in COMPARE:
    _register_comparison(_op)


def _register_extreme(op: str, smaller: bool) -> None:
    def fold(call: Call) -> np.ndarray:
        values = [call.value(i) for i in range(len(call.values))]
        return reduce(lambda a, b: elementwise(lambda x, y: pick(x, y, smaller), a, b), values)

    EVALUATORS[op] = fold


_register_extreme("Min", True)
_register_extreme("Max", False)
EVALUATORS["Mod"] = lambda call: elementwise(
    lambda a, b: modulo(a, b, call.attrs.get("fmod", 0)), call.value(0), call.value(1)
)
EVALUATORS["Neg"] = lambda call: elementwise(lambda a: 0 - a, call.value(0))
EVALUATORS["Abs"] = lambda call: elementwise(lambda a: a if decide(a >= 0) else 0 - a, call.value(0))
EVALUATORS["Not"] = lambda call: elementwise(lambda a: not decide(a), call.value(0))
EVALUATORS["Identity"] = lambda call: call.value(0)


@evaluator("Where")
def _where(call: Call) -> np.ndarray:
    return elementwise(lambda c, a, b: a if decide(c) else b, call.value(0), call.value(1), call.value(2))


@evaluator("Cast")
def _cast(call: Call) -> np.ndarray | None:
    # int32 and int64 only: sizes fit both, other types would wrap or turn into floats
    return call.value(0) if call.attrs.get("to") in (6, 7) else None
