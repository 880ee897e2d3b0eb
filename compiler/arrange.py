"""A program's steps in the order of least memory, with results over operands and parts within wholes."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.placement import least_arena
from compiler.program import Buffer, Program, Step
from compiler.reorder import reorder
from compiler.sharing import Overwrite, apply, join_all, overwrites, share


def arrange(program: Program) -> None:
    """Orders `program.steps` and lets buffers share memory, as it takes the least.

    Steps that only copy parts into a whole, or out of one, are tried in two ways: put in order like all others, and
    left out where that saves memory in this order; or left out from the start. Neither is always the better one.
    """
    chances, start = overwrites(program), _State.of(program)
    found = [_found(program, chances, joined=False)]
    if any(step.parts for step in start.steps):
        start.restore(program)
        found.append(_found(program, chances, joined=True))
    best = min(found, key=lambda f: f.bytes)
    best.state.restore(program)
    apply(best.taken)


@dataclass
class _State:
    """The order of the steps, and what lies in what."""

    steps: list[Step]
    homes: list[tuple[Buffer, Buffer | None, int]]

    @classmethod
    def of(cls, program: Program) -> _State:
        buffers = {id(b): b for step in program.steps for b in step.buffers}
        buffers |= {id(p.whole): p.whole for step in program.steps for p in step.parts}
        return cls(list(program.steps), [(b, b.home, b.at) for b in buffers.values()])

    def restore(self, program: Program) -> None:
        program.steps = list(self.steps)
        for buffer, home, at in self.homes:
            buffer.home, buffer.at = home, at


@dataclass
class _Found:
    bytes: int
    state: _State
    taken: list[Overwrite]


def _found(program: Program, chances: list[Overwrite], joined: bool) -> _Found:
    laid = join_all(program, chances) if joined else []
    rest = [chance for chance in chances if chance not in laid]
    reorder(program, rest)
    taken = [*laid, *share(program, rest)]
    return _Found(least_arena(program), _State.of(program), taken)
