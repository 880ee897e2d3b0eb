"""Puts a program's steps into the order that needs the least memory."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from compiler.memory.liveness import Aliases
from compiler.memory.order import Node, Ordering, order
from compiler.memory.request import align
from compiler.program import Program
from compiler.sharing import Overwrite

_Graph = tuple[list[Node[Hashable]], dict[Hashable, int], list[int], Aliases[Hashable]]


def reorder(program: Program, chances: Sequence[Overwrite] = ()) -> Ordering:
    """Reorders `program.steps` where that lowers the most bytes of the arena in use at once; says what it found.

    chances: results that may take the place of an operand, if that is read no more afterwards (compiler/sharing.py).

    The stages of a group stay in sequence, and with them all that write one buffer: a value is made by one group. Who
    touches a buffer first, and so fills it, stays the same.
    """
    nodes, sizes, groups, aliases = _as_graph(program, chances)
    found = order(nodes, sizes, aliases=aliases, together=groups)
    program.steps = [program.steps[i] for i in found.order]
    return found


def _as_graph(program: Program, chances: Sequence[Overwrite]) -> _Graph:
    """The steps as nodes, the bytes of what they touch, a label for each step's group, and what lies in what.

    Results in the caller's memory and dimensions known only at run time take no bytes of the arena; they are there for
    what has to come first.
    """
    nodes: list[Node[Hashable]] = []
    sizes: dict[Hashable, int] = {}
    groups: list[int] = []
    aliases: Aliases[Hashable] = Aliases()
    placed: set[Hashable] = set()
    over: dict[int, list[tuple[Hashable, Hashable]]] = {}
    for chance in chances:
        # with views the bytes saved would be others
        if chance.at is None and chance.read.home is None and chance.written.home is None:
            over.setdefault(id(chance.step), []).append((id(chance.read), id(chance.written)))
    for i, step in enumerate(program.steps):
        reads: dict[Hashable, None] = {}
        writes: dict[Hashable, None] = {}
        for k, buffer in enumerate(step.buffers):
            root, at = buffer.root()
            if program.is_written(root):
                key: Hashable = ("dim", buffer.index) if buffer.space == "dims" else id(buffer)
                inside = root.space == "arena"
                sizes[key] = align(buffer.bytes) if inside else 0
                if root is not buffer and key not in placed:
                    placed.add(key)
                    aliases.add(key, id(root), at if inside else 0)
                    sizes[id(root)] = align(root.bytes) if inside else 0
                # lowering does not say who fills a dimension's slot: whoever names it as an operand
                (writes if k in step.writes or buffer.space == "dims" else reads)[key] = None
        for var in step.stage.dims:
            known = ("dim", next(i for i, dim in enumerate(program.dims) if dim.same_as(var)))
            if known in sizes and known not in writes:
                reads[known] = None
        nodes.append(Node(list(reads), list(writes), over=over.get(id(step), [])))
        together = i > 0 and program.steps[i - 1].nodes is step.nodes
        groups.append(groups[-1] + (not together) if groups else 0)
    return nodes, sizes, groups, aliases
