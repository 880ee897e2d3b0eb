"""Puts a program's steps into the order that needs the least memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from compiler.memory.order import Node, Ordering, order
from compiler.memory.request import align
from compiler.program import Buffer, Program, Step

Over = Callable[[Step], Iterable[tuple[Buffer, Buffer]]]


def reorder(program: Program, over: Over = lambda step: ()) -> Ordering:
    """Reorders `program.steps` where that lowers the most bytes of the arena in use at once; says what it found.

    over: pairs (read, written) of buffers in a step, where the written one may take the place of the read one if that
    is read no more afterwards (compiler/sharing.py).

    The stages of a group stay in sequence, and with them all that write one buffer: a value is made by one group. Who
    touches a buffer first, and so fills it, stays the same.
    """
    nodes, sizes, groups = _as_graph(program, over)
    found = order(nodes, sizes, together=groups)
    program.steps = [program.steps[i] for i in found.order]
    return found


def _as_graph(program: Program, over: Over) -> tuple[list[Node[Hashable]], dict[Hashable, int], list[int]]:
    """The steps as nodes, the bytes of what they touch, and a label for each step's group.

    Results in the caller's memory and dimensions known only at run time take no bytes of the arena; they are there for
    what has to come first.
    """
    nodes: list[Node[Hashable]] = []
    sizes: dict[Hashable, int] = {}
    groups: list[int] = []
    for i, step in enumerate(program.steps):
        reads: dict[Hashable, None] = {}
        writes: dict[Hashable, None] = {}
        for k, buffer in enumerate(step.buffers):
            if program.is_written(buffer):
                key: Hashable = ("dim", buffer.index) if buffer.space == "dims" else id(buffer)
                sizes[key] = align(buffer.bytes) if buffer.space == "arena" else 0
                # lowering does not say who fills a dimension's slot: whoever names it as an operand
                (writes if k in step.writes or buffer.space == "dims" else reads)[key] = None
        for var in step.stage.dims:
            known = ("dim", next(i for i, dim in enumerate(program.dims) if dim.same_as(var)))
            if known in sizes and known not in writes:
                reads[known] = None
        pairs = [(id(read), id(written)) for read, written in over(step)]
        nodes.append(Node(list(reads), list(writes), over=pairs))
        together = i > 0 and program.steps[i - 1].nodes is step.nodes
        groups.append(groups[-1] + (not together) if groups else 0)
    return nodes, sizes, groups
