"""Lets results take the place of operands that nothing reads afterwards, where that needs less memory.

An element-wise kernel, or a convolution or product whose fused tail adds a residual, reads an operand's element just
before it stores the result's element of the same number (targets/kernels/in_place.py says which kernels do).
"""

from __future__ import annotations

from typing import NamedTuple

from compiler.placement import least_arena
from compiler.program import Buffer, Program, Step
from targets.kernels.in_place import may_overwrite, over


class Overwrite(NamedTuple):
    """In `step`, the buffer `written` may take the place of `read`."""

    step: Step
    read: Buffer
    written: Buffer


def overwrites(program: Program) -> list[Overwrite]:
    """Every chance there is, whether or not the operand is read later: that depends on the order of the steps."""
    found = []
    for step in program.steps:
        for w in step.writes:
            written = step.buffers[w]
            if written.space != "arena" or not step.stage.once:
                continue
            for r, read in enumerate(step.buffers):
                alone = sum(other.root()[0] is read.root()[0] for other in step.buffers) == 1
                if r in step.writes or read.space != "arena" or read.bytes != written.bytes or not alone:
                    continue
                if may_overwrite(step.stage, r, w):
                    found.append(Overwrite(step, read, written))
    return found


def share(program: Program, chances: list[Overwrite]) -> None:
    """Takes of `chances` those without which the most bytes in use at once would be more, in the order there is now."""
    before = least_arena(program)
    taken = _dying(program, chances)
    for chance in taken:
        chance.written.home = chance.read
    after = least_arena(program)
    for chance in list(taken):
        chance.written.home = None
        if after < before and least_arena(program) > after:
            chance.written.home = chance.read
        else:
            taken.remove(chance)
    for step, read, written in taken:
        r, w = step.buffers.index(read), step.buffers.index(written)
        step.stage = over(step.stage, r, w)
        step.writes = {k - (k > r) for k in step.writes}
        del step.buffers[r]


def _dying(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """The chances whose operand is used no more after their step; at most one a step."""
    last = {id(b.root()[0]): i for i, step in enumerate(program.steps) for b in step.buffers}
    place = {id(step): i for i, step in enumerate(program.steps)}
    taken: dict[int, Overwrite] = {}
    for chance in chances:
        at = place[id(chance.step)]
        if chance.written.home is None and last[id(chance.read.root()[0])] == at:
            taken.setdefault(at, chance)
    return [taken[at] for at in sorted(taken)]
