"""Gives every buffer of a program its place: arena offsets from the memory planner, weights in order of use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compiler.memory.liveness import Step as Use
from compiler.memory.liveness import liveness
from compiler.memory.plan import plan
from compiler.memory.request import ALIGNMENT, Request, align
from compiler.program import Buffer, Program


@dataclass(frozen=True)
class Placement:
    """Sizes in bytes. `lives` are the first and last step of each arena buffer, in the order of `buffers`."""

    arena_bytes: int
    weights_bytes: int
    lower_bound: int
    planner: str
    buffers: list[Buffer]
    lives: list[tuple[int, int]]


def place(program: Program) -> Placement:
    """Sets the offset of every arena and weight buffer. Scratch counts like any other buffer."""
    arena = {id(b): b for b in program.buffers("arena")}
    uses = [
        Use(
            [id(b) for i, b in enumerate(step.buffers) if i not in step.writes and id(b) in arena],
            [id(b) for i, b in enumerate(step.buffers) if i in step.writes and id(b) in arena],
        )
        for step in program.steps
    ]
    lives = liveness(uses)
    buffers = [arena[key] for key in lives]
    requests = [Request(b.bytes, life.first, life.last) for b, life in zip(buffers, lives.values(), strict=True)]
    made = plan(requests)
    for buffer, offset in zip(buffers, made.offsets, strict=True):
        buffer.offset = offset
    end = 0
    for buffer in program.buffers("weights"):
        buffer.offset = end
        end = align(end + buffer.bytes)
    spans = [(life.first, life.last) for life in lives.values()]
    return Placement(made.arena_bytes, end, made.lower_bound, made.planner, buffers, spans)


def weight_chunks(program: Program) -> Iterator[bytes | memoryview]:
    """The bytes of weights.bin, one tensor at a time, in order of use."""
    for buffer in program.buffers("weights"):
        assert buffer.data is not None
        array = np.ascontiguousarray(buffer.data())
        plain = array.ndim and array.size  # numpy views neither a scalar nor nothing as bytes
        raw = array.view(np.uint8).reshape(-1) if plain else np.frombuffer(array.tobytes(), np.uint8)
        if raw.nbytes != buffer.bytes:
            raise RuntimeError(f"weight {buffer.name} has {raw.nbytes} bytes, planned {buffer.bytes}")
        yield raw.data
        if pad := -raw.nbytes % ALIGNMENT:
            yield bytes(pad)
