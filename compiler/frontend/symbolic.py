"""Integer values that depend on symbolic dimensions: the shape arithmetic exporters leave in graphs, evaluated exactly.

A value is a numpy array of dtype object whose elements are Python ints and bools or int64 TIR expressions. `evaluate`
gives a node's output from such inputs, or None where the operator or the value is not of this kind: shapes then stay
unknown to the compiler, and whoever needs them says so. The operators stand in symbolic_ops.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from tvm import tirx

from targets.kernels.tensor import simplify

from . import symbolic_moves  # noqa: F401  (registers its operators)
from .facts import Facts
from .nodes import attributes, op_domain, op_version
from .symbolic_ops import EVALUATORS, Call

MOST = 4096  # elements: above it, it is data and not a shape
NEEDS_SHAPE_ONLY = {"Shape", "Size"}


def evaluate(node: ir.Node, facts: Facts) -> np.ndarray | None:
    """The symbolic integers `node` computes, dtype object; None where it cannot be told."""
    evaluator = EVALUATORS.get(node.op_type) if not op_domain(node) else None
    if evaluator is None or len([v for v in node.outputs if v.name]) != 1:
        return None
    names = [v.name if v is not None else None for v in node.inputs]
    if node.op_type in NEEDS_SHAPE_ONLY:
        fact = facts.values.get(names[0] or "")
        values: list[np.ndarray | None] = [None]
        shapes = [fact.shape if fact else None]
        if fact is None:
            return None
    else:
        if not any(name in facts.symbolic for name in names):
            return None  # nothing symbolic: constant folding does it
        values = [None if name is None or name == "" else integers(name, facts) for name in names]
        shapes = [None] * len(values)
        if any(value is None for name, value in zip(names, values, strict=True) if name):
            return None
    try:
        result = evaluator(Call(values, shapes, attributes(node), op_version(node, facts)))
        return None if result is None else simplified(result)
    except (ValueError, IndexError, KeyError, TypeError):
        return None  # malformed: the operator's handler gives the reason


def integers(name: str, facts: Facts) -> np.ndarray | None:
    """The value called `name` as an object array of ints and expressions; None where it is not known or not integer."""
    if name in facts.symbolic:
        return facts.symbolic[name]
    if name not in facts.constants:
        return None
    tensor = facts.constants.tensor(name)
    if tensor.size > MOST or not (tensor.dtype.is_integer() or tensor.dtype == ir.DataType.BOOL):
        return None
    return facts.constants[name].astype(object)


def simplified(value: np.ndarray) -> np.ndarray:
    """Every element simplified: Python ints and bools wherever they are known."""
    result = np.empty(value.shape, dtype=object)
    for index in np.ndindex(value.shape):
        item = value[index]
        if isinstance(item, bool | np.bool_):
            result[index] = bool(item)
        else:
            number = simplify(item) if isinstance(item, tirx.Expr) else int(item)
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError("wraps around in 64 bits")
            result[index] = number
    return result


def all_numbers(value: np.ndarray) -> bool:
    """Whether no element is symbolic."""
    return not any(isinstance(item, tirx.Expr) for item in value.reshape(-1).tolist())
