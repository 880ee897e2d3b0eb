"""Runs of kernels that can be split into bands: one exit, whose rows need only some rows of everything within."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from compiler.fusion import Group
from compiler.passes.edit import Edit

from .rules import Rule, rule

LONGEST = 48  # kernels in a run
Rows = tuple[int, int]  # first, and the one after the last


@dataclass(frozen=True)
class Region:
    """Kernels `start` to `stop` (excluded), whose only result is `exit`, `size` rows along `axes[exit.name]`."""

    start: int
    stop: int
    exit: ir.Value
    size: int
    nodes: tuple[ir.Node, ...]  # in order
    rules: dict[int, Rule]  # by id of a node
    axes: dict[str, int]  # the axis of rows of every value within and of those that come in by rows
    heads: bool = False  # the rows are columns of whole attention heads, and lie apart

    @property
    def grain(self) -> int:
        """What the rows of a band are a multiple of."""
        return max([1, *(rule.grain for rule in self.rules.values())])

    @property
    def most(self) -> int:
        """How many bands there can be."""
        return self.size // self.grain

    def ranges(self, low: int, high: int) -> dict[str, Rows] | None:
        """The rows of every value that rows `low` to `high` of the exit need; None where some need none at all."""
        needed: dict[str, Rows] = {str(self.exit.name): (low, high)}
        for node in reversed(self.nodes):
            made = self.rules[id(node)]
            rows = made.rows(*needed[str(node.outputs[0].name)])
            if rows is None:
                return None
            for value, axis in zip(node.inputs, made.axes, strict=True):
                if value is not None and axis is not None:
                    old = needed.get(str(value.name), rows)
                    needed[str(value.name)] = (min(old[0], rows[0]), max(old[1], rows[1]))
        return needed

    def bands(self, count: int) -> list[Rows]:
        """The exit's rows in `count` parts as equal as they go, the larger ones first."""
        each, more = divmod(self.most, count)
        borders = [0]
        for i in range(count):
            borders.append(borders[-1] + (each + (i < more)) * self.grain)
        return list(pairwise(borders))


def rows_axis(shape: Sequence[object]) -> int | None:
    """The axis along which a band of a value is one run of bytes: the first of more than one element, not the last."""
    if not all(isinstance(d, int) for d in shape):
        return None
    axis = next((i for i, d in enumerate(shape) if d != 1), None)
    return None if axis is None or axis >= len(shape) - 1 else axis


def late(groups: Sequence[Group]) -> list[Group]:
    """The groups in an order in which each stands as close before its reader as it can, first operands closest.

    So the queries of an attention, say, come after its keys and values, in one run with what follows.
    """
    makers = {name: group for group in groups for name in group.outputs}
    read = {str(v.name) for group in groups for node in group.nodes for v in node.inputs if v is not None}
    ends = [group for group in groups if not read & {*group.outputs}]
    done: set[int] = set()
    ordered: list[Group] = []
    for last in [*ends, *groups]:
        stack = [(last, False)]
        while stack:
            group, ready = stack.pop()
            if id(group) in done:
                continue
            if ready:
                done.add(id(group))
                ordered.append(group)
                continue
            stack.append((group, True))
            names = [str(v.name) for node in group.nodes for v in node.inputs if v is not None]
            # the last on the stack is visited first
            stack += [(makers[n], False) for n in names if n in makers and makers[n] is not group]
    return ordered


class Regions:
    """All regions of a graph by where they stop."""

    def __init__(self, edit: Edit, groups: Sequence[Group]) -> None:
        self.edit, self.groups = edit, groups
        self.home = {name: i for i, group in enumerate(groups) for name in group.outputs}
        self._order = {id(node): i for i, node in enumerate(edit.graph)}
        self.last: dict[str, int] = {}  # the last kernel that reads a value
        for i, group in enumerate(groups):
            for node in group.nodes:
                self.last.update({str(v.name): i for v in node.inputs if v is not None})
        for value in edit.graph.outputs:
            self.last[str(value.name)] = len(groups)

    def ending(self, stop: int) -> Iterator[Region]:
        """The regions of two or more operators whose last kernel is `stop` - 1, from the shortest on."""
        group = self.groups[stop - 1]
        if len(group.outputs) != 1:
            return
        exit = group.nodes[-1].outputs[0]
        if exit.name != group.outputs[0]:
            return
        shape = self.edit.shape(exit)
        axis = rows_axis(shape)
        if axis is not None:
            yield from self._along(stop, exit, axis, heads=False)
        if len(shape) == 3 and all(isinstance(d, int) for d in shape):
            yield from self._along(stop, exit, 2, heads=True)

    def _along(self, stop: int, exit: ir.Value, axis: int, heads: bool) -> Iterator[Region]:
        """Those whose exit is split along `axis`; heads: only those with an attention, by its heads."""
        axes, rules, nodes = {str(exit.name): axis}, {}, []
        whole: set[str] = set()
        size = int(self.edit.shape(exit)[axis])
        for start in range(stop - 1, max(-1, stop - 1 - LONGEST), -1):
            for node in reversed(self.groups[start].nodes):
                made = self._enter(node, axes, whole)
                if made is None:
                    return
                rules[id(node)] = made
                nodes.append(node)
            outputs = [name for k in range(start, stop - 1) for name in self.groups[k].outputs]
            if any(name in whole for name in outputs):
                return
            if all(self.last.get(name, -1) < stop for name in outputs) and (len(nodes) > 1 or heads):
                unique = {id(n): n for n in nodes}
                ordered = sorted(unique.values(), key=lambda n: self._order[id(n)])
                region = Region(start, stop, exit, size, tuple(ordered), dict(rules), dict(axes), heads)
                if any(made.heads for made in rules.values()) == heads and region.most > 1:
                    yield region

    def _enter(self, node: ir.Node, axes: dict[str, int], whole: set[str]) -> Rule | None:
        """Takes a node in, and notes what it says of its inputs; None where it does not fit."""
        name = str(node.outputs[0].name)
        made = rule(self.edit, node, axes[name]) if name in axes and name not in whole else None
        if made is None:
            return None
        for value, axis in zip(node.inputs, made.axes, strict=True):
            if value is None or not value.name:
                continue
            known = axes.get(value.name)
            if axis is None and value.name not in self.edit.facts.constants:
                whole.add(value.name)
            elif axis is not None and known not in (None, axis):
                return None
            elif axis is not None:
                axes[value.name] = axis
            if value.name in whole and value.name in axes:
                return None
        return made
