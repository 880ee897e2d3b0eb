"""The operators of shape arithmetic on object arrays of ints and int64 expressions; registered by name in EVALUATORS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from tvm import tirx

from targets.kernels.tensor import Index, as_expr, product

from .dims import provable, smallest

MOST_ELEMENTS = 4096


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


# ---- element-wise ------------------------------------------------------------------------------------------------------
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


def compare(a: Index, b: Index, op: str) -> bool:
    if not isinstance(a, tirx.Expr) and not isinstance(b, tirx.Expr):
        return bool({"Equal": a == b, "Greater": a > b, "GreaterOrEqual": a >= b, "Less": a < b, "LessOrEqual": a <= b}[op])
    left, right = as_expr(a, "int64"), as_expr(b, "int64")
    made = {"Equal": tirx.EQ, "Greater": tirx.GT, "GreaterOrEqual": tirx.GE, "Less": tirx.LT, "LessOrEqual": tirx.LE}
    return decide(made[op](left, right))


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": truncated_div,
    "And": lambda a, b: decide(a) and decide(b),
    "Or": lambda a, b: decide(a) or decide(b),
    **{op: lambda a, b, op=op: compare(a, b, op) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
}
for _name, _fn in BINARY.items():
    EVALUATORS[_name] = lambda call, fn=_fn: elementwise(fn, call.value(0), call.value(1))
EVALUATORS["Min"] = lambda call: reduce(
    lambda a, b: elementwise(lambda x, y: pick(x, y, True), a, b), [call.value(i) for i in range(len(call.values))]
)
EVALUATORS["Max"] = lambda call: reduce(
    lambda a, b: elementwise(lambda x, y: pick(x, y, False), a, b), [call.value(i) for i in range(len(call.values))]
)
EVALUATORS["Mod"] = lambda call: elementwise(
    lambda a, b: modulo(a, b, call.attrs.get("fmod", 0)), call.value(0), call.value(1)
)
EVALUATORS["Neg"] = lambda call: elementwise(lambda a: 0 - a, call.value(0))
EVALUATORS["Abs"] = lambda call: elementwise(lambda a: a if decide(a >= 0) else 0 - a, call.value(0))
EVALUATORS["Not"] = lambda call: elementwise(lambda a: not decide(a), call.value(0))
EVALUATORS["Identity"] = lambda call: call.value(0)


@evaluator("Where")
def where(call: Call) -> np.ndarray:
    return elementwise(lambda c, a, b: a if decide(c) else b, call.value(0), call.value(1), call.value(2))


@evaluator("Cast")
def cast(call: Call) -> np.ndarray | None:
    # int32 and int64 only: sizes fit both, other types would wrap or turn into floats
    return call.value(0) if call.attrs.get("to") in (6, 7) else None


# ---- data movement -----------------------------------------------------------------------------------------------------
@evaluator("Shape")
def shape(call: Call) -> np.ndarray:
    dims = list(call.shapes[0] or ())
    start, end = call.attrs.get("start", 0), call.attrs.get("end", len(dims))
    rank = len(dims)
    clamp = [min(rank, max(0, v + rank if v < 0 else v)) for v in (start, end)]
    return array(dims[clamp[0] : clamp[1]])


@evaluator("Size")
def size(call: Call) -> np.ndarray:
    return array([product(call.shapes[0] or ())], ())


@evaluator("Gather")
def gather(call: Call) -> np.ndarray:
    data, axis = call.value(0), call.attrs.get("axis", 0) % call.value(0).ndim
    positions = np.array([number(v) for v in call.value(1).reshape(-1)], np.int64)
    return np.take(data, positions, axis).reshape(data.shape[:axis] + call.value(1).shape + data.shape[axis + 1 :])


@evaluator("Slice")
def slice_(call: Call) -> np.ndarray:
    data = call.value(0)
    starts, ends = call.numbers(1, "starts") or [], call.numbers(2, "ends") or []
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    steps = call.numbers(4, "steps") or [1] * len(starts)
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, end, step)  # numpy clamps as ONNX does
    return data[tuple(index)]


@evaluator("Concat")
def concat(call: Call) -> np.ndarray:
    return np.concatenate([call.value(i) for i in range(len(call.values))], axis=call.attrs["axis"])


@evaluator("Unsqueeze")
def unsqueeze(call: Call) -> np.ndarray:
    axes = call.numbers(1, "axes") or []
    rank = call.value(0).ndim + len(axes)
    return np.expand_dims(call.value(0), tuple(a % rank for a in axes))


@evaluator("Squeeze")
def squeeze(call: Call) -> np.ndarray:
    axes = call.numbers(1, "axes")
    return np.squeeze(call.value(0), None if axes is None else tuple(axes))


@evaluator("Reshape")
def reshape(call: Call) -> np.ndarray:
    data, target = call.value(0), [number(v) for v in call.value(1)]
    if not call.attrs.get("allowzero", 0):
        target = [data.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return data.reshape(target)


@evaluator("Flatten")
def flatten(call: Call) -> np.ndarray:
    axis = call.attrs.get("axis", 1)
    return call.value(0).reshape(int(np.prod(call.value(0).shape[:axis])), -1)


@evaluator("Expand")
def expand(call: Call) -> np.ndarray:
    target = tuple(number(v) for v in call.value(1))
    full = np.broadcast_shapes(call.value(0).shape, target)
    if int(np.prod(full)) > MOST_ELEMENTS:
        raise ValueError("too large for a shape")
    return np.broadcast_to(call.value(0), full)


@evaluator("Tile")
def tile(call: Call) -> np.ndarray:
    repeats = [number(v) for v in call.value(1)]
    if int(np.prod(repeats)) * call.value(0).size > MOST_ELEMENTS:
        raise ValueError("too large for a shape")
    return np.tile(call.value(0), repeats)


@evaluator("Range")
def range_(call: Call) -> np.ndarray:
    bounds = [number(call.value(i).reshape(())[()]) for i in range(3)]
    if abs((bounds[1] - bounds[0]) // bounds[2]) > MOST_ELEMENTS:
        raise ValueError("too large for a shape")
    return array(list(range(*bounds)))


# ---- reductions --------------------------------------------------------------------------------------------------------
def _reduce(call: Call, fn: Callable[[Index, Index], Index], start: Index | None) -> np.ndarray:
    data, axes = call.value(0), call.numbers(1, "axes")
    if not axes and call.attrs.get("noop_with_empty_axes", 0):
        return data
    chosen = sorted({a % data.ndim for a in axes} if axes else range(data.ndim))
    kept = [a for a in range(data.ndim) if a not in chosen]
    moved = np.transpose(data, [*kept, *chosen]).reshape(*(data.shape[a] for a in kept), -1)
    result = np.empty(moved.shape[:-1], dtype=object)
    for index in np.ndindex(result.shape):
        items = list(moved[index])
        result[index] = reduce(fn, items) if start is None else reduce(fn, items, start)
    return np.expand_dims(result, tuple(chosen)) if call.attrs.get("keepdims", 1) else result


EVALUATORS["ReduceProd"] = lambda call: _reduce(call, lambda a, b: a * b, 1)
EVALUATORS["ReduceSum"] = lambda call: _reduce(call, lambda a, b: a + b, 0)
EVALUATORS["ReduceMax"] = lambda call: _reduce(call, lambda a, b: pick(a, b, False), None)
EVALUATORS["ReduceMin"] = lambda call: _reduce(call, lambda a, b: pick(a, b, True), None)
