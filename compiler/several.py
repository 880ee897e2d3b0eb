"""Code for several targets in one artifact: a program for each, over weights kept once where they are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from compiler.placement import weights_of
from compiler.program import Buffer, Program


def share_equal(programs: Sequence[Program]) -> None:
    """Gives weights of the same bytes one buffer. Packed weights differ by target, biases and tables seldom do.

    By what they hold, as names do not tell: passes make constants of the same name for every target.
    """
    known: dict[tuple[int, bytes], Buffer] = {}
    for program in programs:
        same = {id(buffer): known.setdefault(_key(buffer), buffer) for buffer in weights_of(program)}
        for step in program.steps:
            step.buffers = [same.get(id(buffer), buffer) for buffer in step.buffers]


def _key(buffer: Buffer) -> tuple[int, bytes]:
    assert buffer.data is not None
    data = np.ascontiguousarray(buffer.data())
    return buffer.bytes, hashlib.sha256(data.tobytes()).digest()


def sharing_notes(programs: Sequence[Program], names: Sequence[str]) -> Iterator[str]:
    """How many bytes each target's weights take, and all together."""
    alone = [sum(buffer.bytes for buffer in weights_of(program)) for program in programs]
    together = sum(buffer.bytes for buffer in weights_of(*programs))
    listed = ", ".join(f"{name} {size:,}" for name, size in zip(names, alone, strict=True))
    yield f"code for {len(names)} targets; bytes of weights: {listed}; together {together:,}"
