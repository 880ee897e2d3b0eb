"""Which bytes of an operand some tasks of a kernel may read: intervals carried through its text.

Conservative: what it finds may be too much, never too little. With it the spans that kernels declare are checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tvm import tirx
from tvm.ir import Expr
from tvm.ir.expr import TensorLoad

from targets.dtypes import item_size

from .in_place import ADDRESS, children
from .reading import Span
from .stage import Stage

_LEAVES = tirx.Var | tirx.IntImm | tirx.FloatImm  # of which there is nothing to follow
Interval = tuple[float, float]  # least and most, both reachable or not
ANY: Interval = (-math.inf, math.inf)
TILE_ROWS, TILE_BYTES = 16, 64  # what an AMX load reads through an address: rows, and bytes of each


def reach(stage: Stage, operand: int, begin: int, end: int, dims: Mapping[str, int]) -> Interval | None:
    """The first byte and the one behind the last that tasks [begin, end) read of an operand; None where they read
    none. `dims`: values of the symbolic dimensions by name.
    """
    return _Walk(stage, operand, begin, end, dims).found


def holds(stage: Stage, span: Span, unit: int, tasks: int, dims: Mapping[str, int]) -> bool:
    """Whether unit `unit` of a stage with so many tasks reads no more of `span`'s operand than it says."""
    each = tasks // stage.reading.units
    operand = next(i for i, leaf in enumerate(stage.operands) if leaf is span.leaf)
    found = reach(stage, operand, unit * each, (unit + 1) * each, dims)
    if found is None:
        return True
    at = unit - span.first
    size = min((at + 1) * span.bytes, math.prod(span.leaf.shape) * item_size(span.leaf.dtype))
    return 0 <= at < span.units and at * span.bytes <= found[0] and found[1] <= size


class _Walk:
    def __init__(self, stage: Stage, operand: int, begin: int, end: int, dims: Mapping[str, int]) -> None:
        params = list(stage.func.params)
        self.pointer = params[operand]
        self.item = item_size(stage.operands[operand].dtype)
        self.views: list[tirx.Var] = []
        self.known: dict[object, Interval] = {params[-2]: (begin, begin), params[-1]: (end, end)}
        self.known |= {var: (dims[var.name],) * 2 for var in stage.dims}
        self.found: Interval | None = None
        self.visit(stage.func.body)

    # ---- statements -------------------------------------------------------------------------------------------------
    def visit(self, node: object) -> None:
        """Follows a statement or expression."""
        if isinstance(node, tirx.DeclBuffer):
            if node.data.same_as(self.pointer):
                self.views.append(node.buffer)
        elif isinstance(node, tirx.SeqStmt):
            for child in node.seq:
                self.visit(child)
        elif isinstance(node, tirx.Bind):
            self.visit(node.value)
            self.known[node.var] = self.value(node.value)
        elif isinstance(node, tirx.For):
            self.loop(node)
        elif isinstance(node, tirx.IfThenElse):
            self.branch(node)
        elif isinstance(node, TensorLoad):
            self.touch(node, self.item)
            for index in node.indices:
                self.visit(index)
        elif not isinstance(node, _LEAVES):
            self.others(node)

    def others(self, node: object) -> None:
        """Whatever has no rule of its own."""
        if isinstance(node, Expr) and "llvm.prefetch" in _name(node):
            return  # never faults
        within = list(children(node))
        if isinstance(node, Expr) and any(_name(child) == ADDRESS for child in within):
            strides = [int(child.value) for child in within if isinstance(child, tirx.IntImm)]
            size = (TILE_ROWS - 1) * max([0, *strides]) + TILE_BYTES
            for child in within:
                for load in children(child) if _name(child) == ADDRESS else [child]:
                    if isinstance(load, TensorLoad):
                        self.touch(load, size)
        else:
            for child in within:
                self.visit(child)

    def loop(self, node: tirx.For) -> None:
        """A loop's body once, for all values of its variable."""
        low, count = self.value(node.min), self.value(node.extent)
        if count[1] < 1:
            return
        self.known[node.loop_var] = (low[0], low[1] + count[1] - 1)
        self.visit(node.body)

    def branch(self, node: tirx.IfThenElse) -> None:
        """The branches that may be taken."""
        truth = self.value(node.condition)
        self.visit(node.condition)
        if truth[1] >= 1:
            self.visit(node.then_case)
        if node.else_case is not None and truth[0] < 1:
            self.visit(node.else_case)

    def touch(self, load: TensorLoad, size: int) -> None:
        """Notes a read of `size` bytes from the element `load` names."""
        if not any(load.source.same_as(view) for view in self.views):
            return
        at: Interval = (0, 0)
        for index, extent in zip(load.indices, load.source.shape, strict=True):
            at = _add(_times(at, self.value(extent)), self.value(index))
        low, high = at[0] * self.item, at[1] * self.item + size
        self.found = (low, high) if self.found is None else (min(low, self.found[0]), max(high, self.found[1]))

    # ---- expressions ------------------------------------------------------------------------------------------------
    def value(self, e: object) -> Interval:
        """The numbers an expression may have; conditions are 0 or 1."""
        if isinstance(e, int):
            return (e, e)
        if isinstance(e, tirx.IntImm):
            return (int(e.value), int(e.value))
        if isinstance(e, tirx.Var):
            return self.known.get(e, ANY)
        if isinstance(e, tirx.Cast):
            return self.value(e.value)
        if isinstance(e, tirx.Broadcast):
            return self.value(e.value)
        if isinstance(e, tirx.Ramp):
            last = _times(self.value(e.stride), self.value(tirx.const(int(e.lanes) - 1, "int64")))
            first = self.value(e.base)
            return _add(first, (min(0, last[0]), max(0, last[1])))
        if isinstance(e, tirx.Select):
            truth = self.value(e.condition)
            sides = [self.value(e.true_value)] if truth[1] >= 1 else []
            sides += [self.value(e.false_value)] if truth[0] < 1 else []
            return min(s[0] for s in sides), max(s[1] for s in sides)
        rule = _RULES.get(type(e))
        return rule(self.value(e.a), self.value(e.b)) if rule else ANY  # type: ignore[attr-defined]


def _name(e: object) -> str:
    """The operator that a call is of, an LLVM intrinsic by its own name."""
    name = str(getattr(getattr(e, "op", None), "name", ""))
    return str(e).split("(", 1)[1][:40] if "call_llvm" in name and "prefetch" in str(e)[:200] else name


def _add(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]


def _times(a: Interval, b: Interval) -> Interval:
    ends = [0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


def _quotient(a: Interval, b: Interval) -> Interval:
    if b[0] != b[1] or b[0] <= 0 or a[0] < 0 or a[1] == math.inf:
        return ANY
    return a[0] // b[0], a[1] // b[0]


def _rest(a: Interval, b: Interval) -> Interval:
    if b[0] != b[1] or b[0] <= 0 or a[0] < 0:
        return ANY
    if a[1] != math.inf and a[0] // b[0] == a[1] // b[0]:
        return a[0] % b[0], a[1] % b[0]
    return 0, b[0] - 1


def _truth(certain: Callable[[Interval, Interval], bool], impossible: Callable[[Interval, Interval], bool]) -> Callable:
    return lambda a, b: (1, 1) if certain(a, b) else (0, 0) if impossible(a, b) else (0, 1)


_RULES: dict[type, Callable[[Interval, Interval], Interval]] = {
    tirx.Add: _add,
    tirx.Sub: lambda a, b: (a[0] - b[1], a[1] - b[0]),
    tirx.Mul: _times,
    tirx.Div: _quotient,
    tirx.FloorDiv: _quotient,
    tirx.Mod: _rest,
    tirx.FloorMod: _rest,
    tirx.Min: lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    tirx.Max: lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    tirx.LT: _truth(lambda a, b: a[1] < b[0], lambda a, b: a[0] >= b[1]),
    tirx.LE: _truth(lambda a, b: a[1] <= b[0], lambda a, b: a[0] > b[1]),
    tirx.GT: _truth(lambda a, b: a[0] > b[1], lambda a, b: a[1] <= b[0]),
    tirx.GE: _truth(lambda a, b: a[0] >= b[1], lambda a, b: a[1] < b[0]),
    tirx.EQ: _truth(lambda a, b: a[0] == a[1] == b[0] == b[1], lambda a, b: a[1] < b[0] or b[1] < a[0]),
    tirx.NE: _truth(lambda a, b: a[1] < b[0] or b[1] < a[0], lambda a, b: a[0] == a[1] == b[0] == b[1]),
}
