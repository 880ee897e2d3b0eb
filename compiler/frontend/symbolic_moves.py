"""Data movement and reductions of shape computations on object arrays; registered in symbolic_ops.EVALUATORS."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from targets.kernels.tensor import Index, product

from .symbolic_ops import EVALUATORS, Call, array, evaluator, number, pick

MOST_ELEMENTS = 4096  # a result above this is data, not a shape


@evaluator("Shape")
def _shape(call: Call) -> np.ndarray:
    dims = list(call.shapes[0] or ())
    start, end = call.attrs.get("start", 0), call.attrs.get("end", len(dims))
    rank = len(dims)
    clamp = [min(rank, max(0, v + rank if v < 0 else v)) for v in (start, end)]
    return array(dims[clamp[0] : clamp[1]])


@evaluator("Size")
def _size(call: Call) -> np.ndarray:
    return array([product(call.shapes[0] or ())], ())


@evaluator("Gather")
def _gather(call: Call) -> np.ndarray:
    data, axis = call.value(0), call.attrs.get("axis", 0) % call.value(0).ndim
    positions = np.array([number(v) for v in call.value(1).reshape(-1)], np.int64)
    return np.take(data, positions, axis).reshape(data.shape[:axis] + call.value(1).shape + data.shape[axis + 1 :])


@evaluator("Slice")
def _slice(call: Call) -> np.ndarray:
    data = call.value(0)
    starts, ends = call.numbers(1, "starts") or [], call.numbers(2, "ends") or []
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    steps = call.numbers(4, "steps") or [1] * len(starts)
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, end, step)  # numpy clamps as ONNX does
    return data[tuple(index)]


@evaluator("Concat")
def _concat(call: Call) -> np.ndarray:
    return np.concatenate([call.value(i) for i in range(len(call.values))], axis=call.attrs["axis"])


@evaluator("Unsqueeze")
def _unsqueeze(call: Call) -> np.ndarray:
    axes = call.numbers(1, "axes") or []
    rank = call.value(0).ndim + len(axes)
    return np.expand_dims(call.value(0), tuple(a % rank for a in axes))


@evaluator("Squeeze")
def _squeeze(call: Call) -> np.ndarray:
    axes = call.numbers(1, "axes")
    return np.squeeze(call.value(0), None if axes is None else tuple(axes))


@evaluator("Reshape")
def _reshape(call: Call) -> np.ndarray:
    data, target = call.value(0), [number(v) for v in call.value(1)]
    if not call.attrs.get("allowzero", 0):
        target = [data.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return data.reshape(target)


@evaluator("Flatten")
def _flatten(call: Call) -> np.ndarray:
    axis = call.attrs.get("axis", 1)
    return call.value(0).reshape(int(np.prod(call.value(0).shape[:axis])), -1)


@evaluator("Expand")
def _expand(call: Call) -> np.ndarray:
    target = tuple(number(v) for v in call.value(1))
    full = np.broadcast_shapes(call.value(0).shape, target)
    if int(np.prod(full)) > MOST_ELEMENTS:
        raise ValueError("too large for a shape")
    return np.broadcast_to(call.value(0), full)


@evaluator("Tile")
def _tile(call: Call) -> np.ndarray:
    repeats = [number(v) for v in call.value(1)]
    if int(np.prod(repeats)) * call.value(0).size > MOST_ELEMENTS:
        raise ValueError("too large for a shape")
    return np.tile(call.value(0), repeats)


@evaluator("Range")
def _range(call: Call) -> np.ndarray:
    bounds = [number(call.value(i).reshape(())[()]) for i in range(3)]
    if abs((bounds[1] - bounds[0]) // bounds[2]) > MOST_ELEMENTS:
        raise ValueError("too large for a shape")
    return array(list(range(*bounds)))


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
