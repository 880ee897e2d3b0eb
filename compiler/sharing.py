"""Lets results take the place of operands that nothing reads afterwards, where that needs less memory.

An element-wise kernel, or a convolution or product whose fused tail adds a residual, reads an operand's element just
before it stores the result's element of the same number; a copy into a padded image moves rows one after the other
(targets/kernels/in_place.py).
"""

from __future__ import annotations

from typing import NamedTuple

from compiler.memory.request import ALIGNMENT, live_bytes
from compiler.overlay import lay_over
from compiler.placement import least_arena, requests_of
from compiler.program import Buffer, Program, Step
from targets.kernels.in_place import in_order, may_overwrite, over


class Overwrite(NamedTuple):
    """In `step`, the buffer `written` may take the place of `read`; or `read` lie within `written`, from byte `at`."""

    step: Step
    read: Buffer
    written: Buffer
    at: int | None = None

    def moved(self) -> Buffer:
        """The buffer that then has no bytes of its own."""
        return self.written if self.at is None else self.read

    def take(self) -> None:
        """Lets the two share memory."""
        self.moved().home, self.moved().at = (self.read, 0) if self.at is None else (self.written, self.at)

    def leave(self) -> None:
        """Undoes `take`."""
        self.moved().home, self.moved().at = None, 0


def overwrites(program: Program) -> list[Overwrite]:
    """Every chance there is, whether or not the operand is read later: that depends on the order of the steps."""
    found = []
    for step in program.steps:
        slide = step.stage.slide
        for w in step.writes:
            for r, read in enumerate(step.buffers):
                written = step.buffers[w]
                if {read.space, written.space} != {"arena"}:
                    continue
                if slide and (slide.read, slide.written) == (r, w):
                    found.append(Overwrite(step, read, written, slide.at))
                elif r not in step.writes and read.bytes == written.bytes and may_overwrite(step.stage, r, w):
                    found.append(Overwrite(step, read, written))
    return found


def share(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """Takes of `chances` those without which the most bytes in use at once would be more, in the order there is now.

    Gives them back, for `apply`.
    """
    laid = _join(program, chances)
    rest = [chance for chance in chances if chance not in laid]
    ways = [_all_of_use]
    if program.alignment < ALIGNMENT and any(chance.at is not None for chance in rest):
        ways.append(_one_by_one)  # where every kernel may slide, which is on one thread
    best: tuple[int, list[Overwrite]] | None = None
    for way in ways:
        taken = way(program, rest)
        least = least_arena(program)
        if best is None or least < best[0]:
            best = least, taken
        for chance in taken:
            chance.leave()
    assert best is not None
    for chance in best[1]:
        chance.take()
    return [*laid, *best[1]]


def _all_of_use(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """All chances, but for those without which the arena is no larger."""
    before = least_arena(program)
    taken = _dying(program, chances)
    for chance in taken:
        chance.take()
    after = least_arena(program)
    for chance in list(taken):
        chance.leave()
        if after < before and least_arena(program) > after:
            chance.take()
        else:
            taken.remove(chance)
    return taken


def _one_by_one(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """Of chances to slide, whichever lowers the fullest steps most, as long as one does.

    A chain of results that slide is one buffer that grows from each to the next: all of them are rarely best.
    """
    chances, taken = _dying(program, chances), []

    def fullest() -> list[int]:
        return sorted(live_bytes(requests_of(program)[1], program.alignment), reverse=True)

    now = fullest()
    while chances:
        found = []
        for i, chance in enumerate(chances):
            chance.take()
            found.append((fullest(), i))
            chance.leave()
        best, which = min(found)
        if best >= now:
            break
        now = best
        taken.append(chances.pop(which))
        taken[-1].take()
    return taken


def join_all(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """Drops every step that only copies, if it can be, whatever memory that takes; else as `_join`."""
    laid: list[Overwrite] = []
    wholes: dict[int, Buffer] = {}
    program.steps = list(program.steps)
    for step in list(program.steps):
        if _joins(step):
            _put(step)
            program.steps.remove(step)
            wholes[id(step.parts[0].whole)] = step.parts[0].whole
    for whole in wholes.values():
        laid += (lay_over(program, whole, chances) or []) if whole.home is None else []
    return laid


def _joins(step: Step) -> bool:
    """Whether the step's parts can lie in the whole: in neither the caller's memory nor something else already."""
    parts = [p.part for p in step.parts]
    own = all(p.space == "arena" and p.home is None for p in parts)
    return bool(parts) and own and step.parts[0].whole.root()[0] not in parts


def _put(step: Step) -> None:
    for part, whole, at in ((p.part, p.whole, p.at) for p in step.parts):
        part.home, part.at = whole, at


def _join(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """Drops steps that only copy, where having the parts lie in the whole from the start needs no more memory.

    Gives back the chances that are taken because a whole then lies over what its parts are made from.
    """
    now = least_arena(program)
    taken: list[Overwrite] = []
    for step in list(program.steps):
        if not _joins(step):
            continue
        _put(step)
        steps = program.steps
        program.steps = [other for other in steps if other is not step]
        joined = step.parts[0].whole
        laid = lay_over(program, joined, chances) if joined.home is None else None
        then = least_arena(program)
        if then <= now:
            now, taken = then, taken + (laid or [])
            continue
        program.steps = steps
        for part in step.parts:
            part.part.home, part.part.at = None, 0
        if laid is not None:
            joined.home, joined.at = None, 0
    return taken


def apply(chances: list[Overwrite]) -> None:
    """Has the steps' kernels made for what they now get."""
    for chance in chances:
        _apply(chance)


def _apply(chance: Overwrite) -> None:
    step = chance.step
    if chance.at is not None:
        step.stage = in_order(step.stage)
        chance.written.bytes = max(chance.written.bytes, chance.at + chance.read.bytes)
        return
    r, w = step.buffers.index(chance.read), step.buffers.index(chance.written)
    step.stage = over(step.stage, r, w)
    step.writes = {k - (k > r) for k in step.writes}
    del step.buffers[r]


def _dying(program: Program, chances: list[Overwrite]) -> list[Overwrite]:
    """The chances whose operand is used no more after their step; at most one a step, and one home a buffer."""
    last = {id(b.root()[0]): i for i, step in enumerate(program.steps) for b in step.buffers}
    place = {id(step): i for i, step in enumerate(program.steps)}
    taken: dict[int, Overwrite] = {}
    moved: set[int] = set()
    for chance in sorted(chances, key=lambda c: c.at is None):
        at, buffer = place[id(chance.step)], chance.moved()
        root = chance.read.root()[0]
        alone = sum(other.root()[0] is root for other in chance.step.buffers) == 1
        if (
            root.space == "arena"
            and last[id(root)] == at
            and alone
            and buffer.home is None
            and id(buffer) not in moved
            and at not in taken
        ):
            taken[at] = chance
            moved.add(id(buffer))
    return [taken[at] for at in sorted(taken)]
