"""Operators that only move whole runs of bytes: along the outermost axis that is not 1, Concat, Slice and Split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from compiler.frontend.facts import Facts
from targets.dtypes import item_size

LINE = 64  # bytes: kernels like their operands to begin at a cache line

Runs = dict[str, tuple[str, int]]  # a value -> the one it is a part of, and the byte where it begins there


def runs(node: ir.Node, facts: Facts) -> Runs:
    """What lies in what as it is, so that nothing has to be moved if it lies there from the start; else nothing.

    All of known shape. Parts begin at whole cache lines.
    """
    finder = FINDERS.get(node.op_type) if not node.domain else None
    names = [str(v.name) for v in [*node.inputs, *node.outputs] if v is not None and v.name in facts.values]
    if finder is None or not all(isinstance(d, int) for name in names for d in facts.values[name].shape):
        return {}
    found = finder(node, facts)
    return found if all(at % LINE == 0 for _, at in found.values()) else {}


def _concat(node: ir.Node, facts: Facts) -> Runs:
    whole = str(node.outputs[0].name)
    parts = [str(v.name) for v in node.inputs if v is not None]
    # a part twice would have to be in two places; what is known at compile time lies among the weights
    if len(set(parts)) != len(parts) or any(part in facts.constants for part in parts):
        return {}
    axis = node.attributes["axis"].as_int()
    return _side_by_side(whole, parts, axis, facts)


def _split(node: ir.Node, facts: Facts) -> Runs:
    parts = [str(v.name) for v in node.outputs]
    if node.inputs[0] is None or any(part not in facts.values for part in parts):
        return {}
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    return _side_by_side(str(node.inputs[0].name), parts, axis, facts)


def _slice(node: ir.Node, facts: Facts) -> Runs:
    names = [None if v is None else str(v.name) for v in node.inputs]
    numbers = [None if name is None else facts.constants.get(name) for name in names[1:]]
    if (
        len(numbers) < 2
        or numbers[0] is None
        or any(n is None and name for n, name in zip(numbers, names[1:], strict=True))
    ):
        return {}
    whole, shown = str(names[0]), str(node.outputs[0].name)
    before, after = _shape(whole, facts), _shape(shown, facts)
    starts = _ints(numbers[0])
    axes = _ints(numbers[2]) if len(numbers) > 2 and numbers[2] is not None else list(range(len(starts)))
    steps = _ints(numbers[3]) if len(numbers) > 3 and numbers[3] is not None else [1] * len(starts)
    cut = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if any(step != 1 for step in steps) or len(cut) != 1 or prod(before[: cut[0]]) != 1:
        return {}
    begin = dict(zip((axis % len(before) for axis in axes), starts, strict=True))[cut[0]]
    extent = before[cut[0]]
    first = min(max(begin + extent if begin < 0 else begin, 0), extent)
    return {shown: (whole, first * _bytes(before[cut[0] + 1 :], whole, facts))}


FINDERS: Mapping[str, Callable[[ir.Node, Facts], Runs]] = {"Concat": _concat, "Split": _split, "Slice": _slice}


def _side_by_side(whole: str, parts: Sequence[str], axis: int, facts: Facts) -> Runs:
    """`parts` one after the other in `whole`, if they are joined along its outermost axis."""
    shape = _shape(whole, facts)
    if prod(shape[: axis % len(shape)]) != 1:
        return {}
    found, at = {}, 0
    for part in parts:
        found[part] = (whole, at)
        at += _bytes(_shape(part, facts), part, facts)
    return found


def _shape(name: str, facts: Facts) -> list[int]:
    return [int(d) for d in facts.values[name].shape]


def _bytes(shape: Sequence[int], name: str, facts: Facts) -> int:
    return prod(shape) * item_size(facts.values[name].dtype)


def _ints(values: object) -> list[int]:
    return [int(v) for v in np.asarray(values).reshape(-1)]
