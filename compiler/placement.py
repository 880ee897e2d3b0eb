"""Gives every buffer of a program its place: arena offsets from the memory planner, weights in order of use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compiler.memory.liveness import Step as Use
from compiler.memory.liveness import liveness
from compiler.memory.plan import plan
from compiler.memory.request import ALIGNMENT, Request, align, lower_bound
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
    buffers, requests = requests_of(program)
    # planners count in steps of ALIGNMENT: for another one everything is made larger or smaller by as much
    step = program.alignment
    made = plan([r._replace(size=align(r.size, step) // step * ALIGNMENT) for r in requests])
    for buffer, offset in zip(buffers, made.offsets, strict=True):
        buffer.offset = offset // ALIGNMENT * step
    for buffer in program.buffers("arena"):
        root, at = buffer.root()
        buffer.offset = root.offset + at
    end = place_weights(program)
    spans = [(request.first, request.last) for request in requests]
    arena, least = (size * step // ALIGNMENT for size in (made.arena_bytes, made.lower_bound))
    return Placement(arena, end, least, made.planner, buffers, spans)


def place_weights(*programs: Program) -> int:
    """Sets the offset of every weight of these programs, in order of use; gives back the bytes of all."""
    end = 0
    for buffer in weights_of(*programs):
        buffer.offset = end
        end = align(end + buffer.bytes, programs[0].alignment)
    return end


def weights_of(*programs: Program) -> list[Buffer]:
    """Each once, though several programs use it, in order of use."""
    return list({id(b): b for program in programs for b in program.buffers("weights")}.values())


def least_arena(program: Program) -> int:
    """Bytes of the arena that no placement can do without, for the steps and shared buffers as they are."""
    return lower_bound(requests_of(program)[1], program.alignment)


def requests_of(program: Program) -> tuple[list[Buffer], list[Request]]:
    """The buffers to place and for how long; those that lie in others count as part of them."""
    roots: dict[int, Buffer] = {}
    sizes: dict[int, int] = {}
    # what the first step needs is read before it, and inputs are there, which counts as a step of its own
    early = [id(load.buffer) for step in program.steps[:1] for load in step.loads]
    used = {buffer.root()[0].index for buffer in program.buffers("io")}
    early += [id(buffer) for i, buffer in program.inside.items() if i in used]
    uses = [Use([], early)] if early else []
    for number, step in enumerate(program.steps):
        reads: list[int] = []
        writes: list[int] = []
        for load in program.steps[number + 1].loads if number + 1 < len(program.steps) else []:
            writes.append(id(load.buffer))  # read while this step runs
        for i, buffer in enumerate(step.buffers):
            root, at = buffer.root()
            if root.space == "io":
                root = program.inside.get(root.index, root)
            if root.space == "arena":
                sizes[id(root)] = max(sizes.get(id(root), root.bytes), at + buffer.bytes)
                (writes if i in step.writes else reads).append(id(root))
                roots[id(root)] = root
        uses.append(Use(reads, writes))
    lives = liveness(uses)
    shift = 1 if early else 0
    requests = [Request(sizes[key], max(0, life.first - shift), life.last - shift) for key, life in lives.items()]
    return [roots[key] for key in lives], requests


def weight_chunks(*programs: Program) -> Iterator[bytes | memoryview]:
    """The bytes of weights.bin, one tensor at a time, as they were placed."""
    end = 0
    for buffer in sorted(weights_of(*programs), key=lambda b: b.offset):
        if buffer.offset > end:
            yield bytes(buffer.offset - end)
        assert buffer.data is not None
        array = np.ascontiguousarray(buffer.data())
        plain = array.ndim and array.size  # numpy views neither a scalar nor nothing as bytes
        raw = array.view(np.uint8).reshape(-1) if plain else np.frombuffer(array.tobytes(), np.uint8)
        if raw.nbytes != buffer.bytes:
            raise RuntimeError(f"weight {buffer.name} has {raw.nbytes} bytes, planned {buffer.bytes}")
        yield raw.data
        end = align(buffer.offset + raw.nbytes, programs[0].alignment)
        yield bytes(end - buffer.offset - raw.nbytes)
