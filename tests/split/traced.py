"""Follows every byte of a planned program: what a step reads must be what was written for it, and nothing since.

Written without any code of the planner: from the steps as lowering made them, and the addresses that came out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

import compiler.pipeline
from compiler.memory import validate
from compiler.placement import Placement, requests_of
from compiler.program import Buffer, Program

EMPTY = -1


@dataclass
class Lowered:
    """A program's steps before anything was reordered or shared: what each reads and writes, by id of the step."""

    uses: dict[int, tuple[list[Buffer], set[int]]]
    copies: dict[int, list[tuple[Buffer, Buffer, int]]]  # steps that only copy: part, whole, byte where it begins
    keep: list[object] = field(default_factory=list)  # ids stay valid only as long as what they are of


def lowered(program: Program) -> Lowered:
    """What there is to know of a program before it is arranged."""
    uses = {id(step): (list(step.buffers), set(step.writes)) for step in program.steps}
    copies = {id(step): [(p.part, p.whole, p.at) for p in step.parts] for step in program.steps if step.parts}
    return Lowered(uses, copies, list(program.steps))


def check(before: Lowered, program: Program, placement: Placement) -> None:
    """Asserts that the plan loses no value, and that the planner's own validator agrees."""
    buffers, requests = requests_of(program)
    assert validate(requests, [buffer.offset for buffer in buffers], placement.arena_bytes) == []
    there = {id(step) for step in program.steps}
    assert len(there) == len(program.steps) and there <= before.uses.keys()
    gone = before.uses.keys() - there
    assert gone <= before.copies.keys(), "only copies are dropped"
    values = _Values()
    for key in gone:
        for part, whole, at in before.copies[key]:
            values.alias(part, whole, at)
    memory = {"arena": np.full(placement.arena_bytes, EMPTY, np.int64)}
    for i, port in enumerate((*program.inputs, *program.outputs)):
        memory[f"io {i}"] = np.full(port.bytes, EMPTY, np.int64)
    for buffer in (b for used, _ in before.uses.values() for b in used):
        if buffer.space == "io" and buffer.index < len(program.inputs):
            memory[f"io {buffer.index}"][:] = values.of(buffer)
    for step in program.steps:
        used, writes = before.uses[id(step)]
        assert all(any(b is one for one in used) for b in step.buffers)
        spans = {}
        for i, buffer in enumerate(used):
            if buffer.space not in ("arena", "io"):
                continue
            root, begin = buffer.root()
            bytes_of = memory["arena" if root.space == "arena" else f"io {root.index}"]
            begin += root.offset if root.space == "arena" else 0
            assert begin >= 0, f"{step.name}: {buffer.name} before the arena"
            assert begin + buffer.bytes <= len(bytes_of), f"{step.name}: {buffer.name} beyond the arena"
            spans[i] = bytes_of[begin : begin + buffer.bytes]
            if i not in writes:
                assert (spans[i] == values.of(buffer)).all(), f"{step.name} reads {buffer.name}, which is not there"
        for i in spans.keys() & writes:
            spans[i][:] = values.of(used[i])
        for i in spans.keys() & writes:  # two results of one step over one another
            assert (spans[i] == values.of(used[i])).all(), f"{step.name} writes twice where {used[i].name} is"
        for i, j in ((i, j) for i in spans for j in spans if i not in writes and j in writes):
            if np.may_share_memory(spans[i], spans[j]):
                one, other = used[i].root()[0], used[j].root()[0]
                assert one is other, f"{step.name} writes {used[j].name} over {used[i].name}, not on purpose"
    for i, port in enumerate(program.outputs, len(program.inputs)):
        assert (memory[f"io {i}"] != EMPTY).all(), f"output {port.name} is not written"


class _Values:
    """A number for each byte of each value; a part of a whole has the whole's."""

    def __init__(self) -> None:
        self._within: dict[int, tuple[Buffer, int]] = {}
        self._numbers: dict[int, int] = {}
        self._keep: list[Buffer] = []

    def alias(self, part: Buffer, whole: Buffer, at: int) -> None:
        assert id(part) not in self._within, f"{part.name} is part of two"
        self._within[id(part)] = whole, at

    def of(self, buffer: Buffer) -> np.ndarray:
        size, at = buffer.bytes, 0
        while id(buffer) in self._within:
            buffer, more = self._within[id(buffer)]
            at += more
        self._keep.append(buffer)
        number = self._numbers.setdefault(id(buffer), len(self._numbers))
        return (np.int64(number) << 32) + np.arange(at, at + size)


@contextmanager
def traced() -> Iterator[list[int]]:
    """Has every plan checked that the compiler makes meanwhile, also those it then drops; gives their arenas' bytes."""
    own, seen = compiler.pipeline.arranged, []

    def arranged(program: Program) -> Placement:
        before = lowered(program)
        placement = own(program)
        check(before, program, placement)
        seen.append(placement.arena_bytes)
        return placement

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler.pipeline, "arranged", arranged)
        yield seen
