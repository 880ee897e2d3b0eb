"""Decides which operators become one kernel: an anchor with its element-wise tail, or a chain of cheap operators."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from compiler.copies import runs
from compiler.frontend.dims import largest
from compiler.frontend.facts import Facts
from compiler.frontend.nodes import op_version
from compiler.ops.registry import Kind, find
from targets.kernels.registry import TEMPLATES
from targets.kernels.tensor import Index, Tensor, product, same_shape, same_size

# Injective, but better as a kernel of its own: an element picks its source among many inputs
SOLITARY = {"Concat", "Resize", "GridSample"}
MAX_CHAIN = 24  # operators in one kernel; beyond that registers run out and code grows


@dataclass(eq=False)
class Group:
    """Operators compiled together, in order. `anchor` is the first node when it is not element-wise."""

    nodes: list[ir.Node]
    anchor: bool = False
    outputs: list[str] = field(default_factory=list)


def kind_of(node: ir.Node, facts: Facts) -> Kind:
    """How the node's operator maps indices; see compiler/ops/registry.py."""
    definition = find(node.domain, node.op_type, op_version(node, facts))
    return definition.kind if definition else "anchor"


def fuse(nodes: list[ir.Node], facts: Facts, outputs: set[str]) -> list[Group]:
    """Groups in an order in which every group comes after those it reads from. `outputs`: the graph's own."""
    shapes = {name: tuple(fact.shape) for name, fact in facts.values.items()}
    consumers: dict[str, list[ir.Node]] = {}
    for node in nodes:
        for value in node.inputs:
            if value is not None and value.name:
                consumers.setdefault(value.name, []).append(node)
    kinds = {id(n): kind_of(n, facts) for n in nodes}
    alone = {id(n) for n in nodes if n.op_type in SOLITARY or _shows_rows(n, facts, consumers)}
    inlined = {
        id(n): n for n in nodes if n.op_type == "DequantizeLinear" and _inlined(n, kinds, consumers, shapes, outputs)
    }
    group_of: dict[int, Group] = {}
    for node in nodes:
        if id(node) in inlined:
            continue
        home = None
        if kinds[id(node)] in ("elementwise", "injective") and id(node) not in alone:
            home = _home(node, group_of, kinds, consumers, shapes, outputs, inlined, alone)
        if home is None:
            home = Group([], anchor=kinds[id(node)] == "anchor")
        if kinds[id(node)] != "anchor":
            makers = (value.producer() for value in node.inputs if value is not None)
            home.nodes += dict.fromkeys(m for m in makers if m is not None and id(m) in inlined)
        home.nodes.append(node)
        group_of[id(node)] = home
    # a group stands where its last node stood: by then all that it reads is there
    ordered: list[Group] = []
    for node in nodes:
        group = group_of.get(id(node))
        if group is not None and group.nodes[-1] is node:
            inside = {id(n) for n in group.nodes}
            for member in (n for n in group.nodes if id(n) not in inlined):
                for value in member.outputs:
                    if not value.name:
                        continue
                    users = consumers.get(value.name, [])
                    if value.name in outputs or any(id(u) not in inside for u in users) or not users:
                        group.outputs.append(value.name)
            ordered.append(group)
    return ordered


def _shows_rows(node: ir.Node, facts: Facts, consumers: dict[str, list[ir.Node]]) -> bool:
    """Whether a Slice is rows of a value that is there for others as well: then it need not be copied."""
    source = node.inputs[0] if node.op_type == "Slice" and not node.domain else None
    if source is None or source.producer() is None or len(consumers.get(str(source.name), ())) < 2:
        return False
    return bool(runs(node, facts))


def _inlined(
    node: ir.Node,
    kinds: dict[int, Kind],
    consumers: dict[str, list[ir.Node]],
    shapes: dict[str, tuple[Index, ...]],
    outputs: set[str],
) -> bool:
    """Whether every reader computes this DequantizeLinear for itself: a byte is cheaper to read than a float."""
    value = node.outputs[0]
    mine, readers = shapes.get(value.name or ""), consumers.get(value.name or "", [])
    return (
        mine is not None
        and value.name not in outputs
        and bool(readers)
        and all(kinds[id(r)] in ("elementwise", "injective") and r.op_type not in SOLITARY for r in readers)
        and all(same_size(mine, shapes[r.outputs[0].name]) for r in readers if r.outputs[0].name in shapes)
    )


def _home(
    node: ir.Node,
    group_of: dict[int, Group],
    kinds: dict[int, Kind],
    consumers: dict[str, list[ir.Node]],
    shapes: dict[str, tuple[Index, ...]],
    outputs: set[str],
    inlined: dict[int, ir.Node],
    alone: set[int],
) -> Group | None:
    """The group that `node` can join as its new last node."""
    mine = shapes.get(node.outputs[0].name or "")
    joined: Group | None = None
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        reader = node
        if producer is not None and id(producer) in inlined:
            if len(consumers[str(producer.outputs[0].name)]) != 1:
                continue
            reader, value = producer, producer.inputs[0]
            producer = value.producer() if value is not None else None
        if value is None or not value.name or producer is None or id(producer) not in group_of:
            continue
        group = group_of[id(producer)]
        if joined is not None or group.nodes[-1] is not producer or len(group.nodes) >= MAX_CHAIN:
            continue
        if value.name in outputs or any(c is not reader for c in consumers[value.name]) or len(producer.outputs) != 1:
            continue
        theirs = shapes.get(value.name)
        if mine is None or theirs is None or kinds[id(producer)] == "view" or id(producer) in alone:
            continue
        if group.anchor:
            # a template applies its tail element by element, so the tail keeps the anchor's shape
            fits = kinds[id(node)] == "elementwise" and same_shape(mine, theirs) and _tail_allowed(group.nodes[0])
        else:
            fits = same_size(mine, theirs)
        if fits:
            joined = group
    return joined


def _tail_allowed(anchor: ir.Node) -> bool:
    key = f"{anchor.domain}.{anchor.op_type}" if anchor.domain else anchor.op_type
    return ("cpu", key) in TEMPLATES


def macs_of(t: Tensor) -> int:
    """Multiply-accumulates of the sums behind `t`, at the largest size; 0 for what is cheaper."""
    if t.reduction is None:
        return sum(macs_of(source) for source in t.inputs)
    total = product([*t.shape, *t.reduction.extents])
    return largest(total) if t.reduction.kind == "sum" else 0
