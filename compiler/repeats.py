"""Kernels that layers alike share: emitted for the first, then given the others' operands.

A decoder asks for the same few kernels in every layer, and again in its programs for other caches. Writing one takes a
tenth of a second, so what is asked for is compared instead: shapes, types, attributes, and which operands are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import onnx_ir as ir

from compiler.frontend.facts import Facts
from compiler.frontend.nodes import attributes, op_domain, op_version
from compiler.program import Buffer
from targets.kernels.reading import Reading, Rows
from targets.kernels.registry import Call
from targets.kernels.stage import Const, Leaf, Stage
from targets.kernels.tensor import Tensor
from targets.target import Target

ALIKE: Mapping[str, frozenset[str]] = {
    "edgert.GemmBlocks": frozenset(),
    "edgert.JointBlocks": frozenset(),
    "edgert.GatedBlocks": frozenset(),
    "edgert.CachedAttention": frozenset({"layer"}),
}
"""Operators whose kernels do not depend on constants' numbers, with the attributes that only constants depend on."""
SMALL = 4096  # bytes of a constant whose numbers a tail's kernel may depend on


def tail_asked(nodes: Sequence[ir.Node], facts: Facts, leaf: Callable[[str], Tensor]) -> tuple[str, list[Tensor]]:
    """Of an anchor and its tail, what the tail computes, as text, and the leaves that it reads."""
    made = {v.name: i for i, v in enumerate(nodes[0].outputs)}
    text: list[object] = []
    leaves: list[Tensor] = []
    for node in nodes[1:]:
        inputs: list[object] = []
        for value in node.inputs:
            name = None if value is None else value.name
            if not name or name in made:
                inputs.append(made.get(name))
                continue
            small = name in facts.constants and facts.constants.tensor(name).nbytes <= SMALL
            inputs.append(("leaf", facts.constants[name].tobytes() if small else b"", str(facts.symbolic.get(name))))
            leaves.append(leaf(name))
        made |= {v.name: len(made) + i for i, v in enumerate(node.outputs)}
        text.append((op_domain(node), node.op_type, op_version(node, facts), attributes(node), inputs))
    return repr(text), leaves


class Repeats:
    """What was emitted, by what was asked for."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[list[Tensor], list[Stage]]] = {}

    def stages(
        self, call: Call, target: Target, tail: str, others: Iterable[Tensor], make: Callable[[], list[Stage] | None]
    ) -> list[Stage] | None:
        """Of `call`, from `make` where none like it came before. tail: what follows the anchor, as text; others: the
        leaves that this reads, in its order."""
        if call.op not in ALIKE:
            return make()
        leaves, asked = _asked(call, target, tail, others)
        if asked in self._made:
            before, stages = self._made[asked]
            try:
                return _Moved(before, leaves, call.attrs).stages(stages)
            except _Differs:
                return make()
        made = make()
        if made is not None:
            self._made[asked] = leaves, made
        return made


@dataclass
class Shared:
    """What programs of one artifact have in common: weights by what they hold, and kernels. Each adds its own."""

    weights: dict[str, Buffer] = field(default_factory=dict)
    repeats: Repeats = field(default_factory=Repeats)


def _asked(call: Call, target: Target, tail: str, others: Iterable[Tensor]) -> tuple[list[Tensor], str]:
    """The leaves of a call, each once, and all that its kernels depend on, as text."""
    several = (call.inputs, call.results, list(others))
    leaves = {id(t): t for some in several for t in some if t is not None}
    numbers = {key: i for i, key in enumerate(leaves)}
    places = [[None if t is None else numbers[id(t)] for t in some] for some in several]
    kinds = [(*map(str, t.shape), t.dtype, t.stored, t.data is None) for t in leaves.values()]
    attrs = {name: value for name, value in call.attrs.items() if name not in ALIKE[call.op]}
    return list(leaves.values()), repr((call.op, str(target), attrs, call.config, tail, places, kinds))


class _Differs(Exception):
    """Another call's constants take another form, or it is not known which they are."""


class _Moved:
    """From one call's operands to another's."""

    def __init__(self, before: Sequence[Tensor], after: Sequence[Tensor], attrs: dict[str, Any]) -> None:
        self._given = {id(a): b for a, b in zip(before, after, strict=True)}
        self._leaves: dict[int, Leaf] = {**self._given}
        self._attrs = attrs

    def stages(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages with the other operands. Raises _Differs."""
        return [
            replace(stage, operands=[self.leaf(leaf) for leaf in stage.operands], reading=self._reading(stage.reading))
            for stage in stages
        ]

    def leaf(self, leaf: Leaf) -> Leaf:
        """What stands for `leaf`: scratch and constants are made anew, once each."""
        if id(leaf) not in self._leaves:
            self._leaves[id(leaf)] = self._const(leaf) if isinstance(leaf, Const) else replace(leaf)
        return self._leaves[id(leaf)]

    def _const(self, leaf: Const) -> Const:
        made = None if leaf.again is None else leaf.again(self._tensor, self._attrs)
        if made is None or (made.shape, made.dtype) != (leaf.shape, leaf.dtype):
            raise _Differs
        return made

    def _tensor(self, t: Tensor) -> Tensor:
        if id(t) not in self._given:
            raise _Differs
        return self._given[id(t)]

    def _reading(self, reading: Reading) -> Reading:
        def rows(given: Rows | None) -> Rows | None:
            if given is None:
                return None
            ahead = None if given.ahead is None else self.leaf(given.ahead)
            return replace(given, leaf=self.leaf(given.leaf), indices=self.leaf(given.indices), ahead=ahead)

        spans = [replace(span, leaf=cast(Const, self.leaf(span.leaf))) for span in reading.spans]
        return Reading(reading.units, spans, rows(reading.rows), rows(reading.beside))
