"""What the pattern passes match by: sums and products of a value, however an exporter happened to write them down.

`x * 0.5 * (1 + erf(x / sqrt 2))` comes in a dozen orders. So a pass asks not for nodes but for values: `product` gives
the factors behind a value, `polynomial` its coefficients in x. Both collect the nodes they looked through in a Pattern,
which says whether the whole can be replaced: nobody else may read what lies inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from .edit import Edit

# Narrow types round between the steps of a spelled-out formula; the one operator in its place would not.
WIDE = ("float32", "float64")
MOST_DEGREE = 8


class NoMatch(Exception):
    """The graph does not have the form that was asked for."""


@dataclass
class Pattern:
    """The nodes of a match so far."""

    edit: Edit
    nodes: list[ir.Node] = field(default_factory=list)

    def producer(self, value: ir.Value | None, *ops: str) -> ir.Node:
        """The node that makes `value`, which is one of `ops`; it becomes part of the pattern. Raises NoMatch."""
        node = None if value is None else value.producer()
        if node is None or node.domain or node.op_type not in ops or len(node.outputs) != 1:
            raise NoMatch
        self.take(node)
        return node

    def take(self, node: ir.Node) -> None:
        """Makes `node` part of the pattern."""
        if node not in self.nodes:
            self.nodes.append(node)

    def closed(self, last: ir.Value) -> bool:
        """Whether nobody outside reads anything but `last`."""
        for node in self.nodes:
            for value in node.outputs:
                if value is last:
                    continue
                if value.is_graph_output() or any(use.node not in self.nodes for use in value.uses()):
                    return False
        return True


def close(value: float | None, target: float, dtype: str = "float32") -> bool:
    """Whether a constant is `target`, up to a few roundings of how the exporter computed it."""
    return value is not None and abs(value - target) <= 4 * float(np.finfo(dtype).eps) * abs(target)


def operands(edit: Edit, node: ir.Node) -> tuple[ir.Value, float]:
    """The other operand and the number of a two-input node that has one scalar constant. Raises NoMatch."""
    a, b = node.inputs[:2]
    if a is not None and b is not None:
        if (number := edit.scalar(b)) is not None and a.name not in edit.facts.constants:
            return a, number
        if (number := edit.scalar(a)) is not None and node.op_type in ("Add", "Mul"):
            return b, number
    raise NoMatch


def product(pattern: Pattern, value: ir.Value, atoms: list[ir.Value]) -> tuple[float, list[ir.Value]]:
    """`value` as number * factors. Stops at `atoms`, and at what is no multiplication. Raises NoMatch."""
    edit = pattern.edit
    if any(value is atom for atom in atoms):
        return 1.0, [value]
    number = edit.scalar(value)
    if number is not None:
        return number, []
    node = value.producer()
    if node is None or node.domain or node.op_type not in ("Mul", "Div", "Neg"):
        return 1.0, [value]
    if node.op_type == "Div":
        divisor = edit.scalar(node.inputs[1])
        if not divisor:
            return 1.0, [value]
        pattern.take(node)
        number, factors = product(pattern, there(node.inputs[0]), atoms)
        return number / divisor, factors
    pattern.take(node)
    if node.op_type == "Neg":
        number, factors = product(pattern, there(node.inputs[0]), atoms)
        return -number, factors
    left, lefts = product(pattern, there(node.inputs[0]), atoms)
    right, rights = product(pattern, there(node.inputs[1]), atoms)
    return left * right, lefts + rights


def polynomial(pattern: Pattern, value: ir.Value, x: ir.Value) -> dict[int, float]:
    """`value` as a polynomial in `x`: power -> coefficient. Raises NoMatch where it is none."""
    edit = pattern.edit
    if value is x:
        return {1: 1.0}
    number = edit.scalar(value)
    if number is not None:
        return {0: number}
    node = pattern.producer(value, "Add", "Sub", "Mul", "Div", "Neg", "Pow", "Identity")
    first = polynomial(pattern, there(node.inputs[0]), x)
    if node.op_type == "Identity":
        return first
    if node.op_type == "Neg":
        return {p: -c for p, c in first.items()}
    if node.op_type == "Pow":
        power = edit.scalar(node.inputs[1])
        if power not in (1.0, 2.0, 3.0):
            raise NoMatch
        result = first
        for _ in range(int(power) - 1):
            result = _times(result, first)
        return result
    second = polynomial(pattern, there(node.inputs[1]), x)
    if node.op_type == "Mul":
        return _times(first, second)
    if node.op_type == "Div":
        if set(second) != {0} or second[0] == 0:
            raise NoMatch
        return {p: c / second[0] for p, c in first.items()}
    sign = 1.0 if node.op_type == "Add" else -1.0
    return {p: first.get(p, 0.0) + sign * second.get(p, 0.0) for p in {*first, *second}}


def _times(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    result: dict[int, float] = {}
    for p, c in a.items():
        for q, d in b.items():
            result[p + q] = result.get(p + q, 0.0) + c * d
    if max(result) > MOST_DEGREE:
        raise NoMatch
    return result


def is_polynomial(found: dict[int, float], wanted: dict[int, float]) -> bool:
    """Whether the coefficients are those wanted, up to rounding."""
    return all(close(found.get(p, 0.0), wanted.get(p, 0.0)) for p in {*found, *wanted})


def climb(edit: Edit, value: ir.Value, most: int = 3) -> list[ir.Value]:
    """The products that `value` goes into: the result of the Mul or Div that alone reads it, of the next, and so on."""
    found: list[ir.Value] = []
    while len(found) < most:
        user = edit.only_use(value)
        if user is None or user.domain or user.op_type not in ("Mul", "Div"):
            break
        value = user.outputs[0]
        found.append(value)
    return found


def gated(edit: Edit, gate: ir.Value, seen: list[ir.Node]) -> list[tuple[ir.Value, ir.Value, float, Pattern]]:
    """Where `gate` is a factor: (result, x, c, pattern) for every result = c * x * gate above it, the largest first.

    seen: the nodes below `gate` that belong to the pattern already.
    """
    results = []
    for top in climb(edit, gate):
        pattern = Pattern(edit, list(seen))
        others = {id(v): v for v in _factors(edit, top, gate)}
        for x in others.values():
            attempt = Pattern(edit, list(pattern.nodes))
            try:
                number, factors = product(attempt, top, [gate, x])
            except NoMatch:
                continue
            if len(factors) == 2 and {id(f) for f in factors} == {id(gate), id(x)} and x is not gate:
                results.append((top, x, number, attempt))
    return results[::-1]


def _factors(edit: Edit, top: ir.Value, gate: ir.Value) -> list[ir.Value]:
    """Every value that could be the other factor: the operands met on the way down."""
    found: list[ir.Value] = []
    todo = [top]
    while todo:
        value = todo.pop()
        node = value.producer()
        if value is not top:
            found.append(value)
        if node is None or node.domain or node.op_type not in ("Mul", "Div") or value is gate or len(found) > 16:
            continue
        todo += [v for v in node.inputs if v is not None and edit.scalar(v) is None]
    return [v for v in found if v is not gate]


def there(value: ir.Value | None) -> ir.Value:
    """`value`. Raises NoMatch for an input that the node does not have."""
    if value is None:
        raise NoMatch
    return value
