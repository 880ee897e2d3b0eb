"""Lays a value that is made part by part over one of its size that those parts are made from, row by row.

MCUFormer (Liang et al., 2023) calls it token overwriting: nothing reads a token's old row once its new one is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compiler.program import Buffer, Program, Step

if TYPE_CHECKING:
    from compiler.sharing import Overwrite

Range = tuple[int, int]  # bytes, the last excluded


def lay_over(program: Program, whole: Buffer, chances: Sequence[Overwrite]) -> list[Overwrite] | None:
    """Gives `whole` the memory of such a value, and gives back the chances this takes; None where there is no such one.

    Those are of the steps that store a row over the one they read.
    """
    if whole.space != "arena":
        return None
    first = next(i for i, step in enumerate(program.steps) if _written(step, whole))
    later = {id(b.root()[0]): b.root()[0] for step in program.steps[first:] for b in step.buffers}
    for under in later.values():
        if under is whole or under.space != "arena" or under.bytes != whole.bytes:
            continue
        taken = _checked(program, whole, under, chances)
        if taken is not None:
            whole.home, whole.at = under, 0
            return taken
    return None


def _checked(program: Program, whole: Buffer, under: Buffer, chances: Sequence[Overwrite]) -> list[Overwrite] | None:
    """The chances to take where no byte of `under` is read after its place got a new one; None where one is."""
    stored: list[Range] = []
    taken: list[Overwrite] = []
    for step in program.steps:
        new = [_range(buffer) for buffer in _written(step, whole)]
        old = [b for b in step.buffers if b.root()[0] is under]
        if any(_meet(_range(b), span) for b in old for span in stored):
            return None
        if _written(step, under) and (stored or new):
            return None
        for read in [b for b in old if any(_meet(_range(b), span) for span in new)]:
            chance = _chance(step, read, whole, chances)
            if chance is None or len(old) > 1:
                return None
            taken.append(chance)
        stored += new
    return taken


def _chance(step: Step, read: Buffer, whole: Buffer, chances: Sequence[Overwrite]) -> Overwrite | None:
    """That `step` stores over `read` what belongs in its very place."""
    for chance in chances:
        if chance.step is step and chance.read is read and chance.at is None:
            root, at = chance.written.root()
            if root is whole and at == read.root()[1]:
                return chance
    return None


def _written(step: Step, root: Buffer) -> list[Buffer]:
    """What `step` writes within `root`."""
    return [step.buffers[w] for w in sorted(step.writes) if step.buffers[w].root()[0] is root]


def _range(buffer: Buffer) -> Range:
    _, at = buffer.root()
    return at, at + buffer.bytes


def _meet(a: Range, b: Range) -> bool:
    return a[0] < b[1] and b[0] < a[1]
