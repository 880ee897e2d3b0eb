"""Lays a value that is made part by part over one of its size that those parts are made from, row by row.

MCUFormer (Liang et al., 2023) calls it token overwriting: nothing reads a token's old row once its new one is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import merge
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

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
    uses = _uses(program)
    first = next(use.step for use in uses[id(whole)] if use.written)
    later = [next((use for use in found if use.step >= first), None) for found in uses.values()]
    for under in [use.root for use in sorted(filter(None, later))]:
        if under is whole or under.space != "arena" or under.bytes != whole.bytes:
            continue
        taken = _checked(program, uses[id(whole)], uses[id(under)], chances)
        if taken is not None:
            whole.home, whole.at = under, 0
            return taken
    return None


class _Use(NamedTuple):
    """A buffer of a step, by its number among the step's: the bytes it has in `root`."""

    step: int
    number: int
    buffer: Buffer
    root: Buffer
    span: Range
    written: bool


def _uses(program: Program) -> dict[int, list[_Use]]:
    """By the id of what buffers lie in, in order."""
    found: dict[int, list[_Use]] = defaultdict(list)
    for i, step in enumerate(program.steps):
        for number, buffer in enumerate(step.buffers):
            root, at = buffer.root()
            found[id(root)].append(_Use(i, number, buffer, root, (at, at + buffer.bytes), number in step.writes))
    return found


def _checked(
    program: Program, whole: list[_Use], under: list[_Use], chances: Sequence[Overwrite]
) -> list[Overwrite] | None:
    """The chances to take where no byte of `under` is read after its place got a new one; None where one is."""
    stored: list[Range] = []
    taken: list[Overwrite] = []
    for i, both in groupby(merge(whole, under, key=lambda use: use.step), key=lambda use: use.step):
        here = list(both)
        new = [use.span for use in here if use.root is whole[0].root and use.written]
        old = [use for use in here if use.root is under[0].root]
        if any(_meet(use.span, span) for use in old for span in stored):
            return None
        if any(use.written for use in old) and (stored or new):
            return None
        for read in [use.buffer for use in old if any(_meet(use.span, span) for span in new)]:
            chance = _chance(program.steps[i], read, whole[0].root, chances)
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


def _meet(a: Range, b: Range) -> bool:
    return a[0] < b[1] and b[0] < a[1]
