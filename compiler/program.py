"""The lowered model: kernel calls in order and the buffers they use.

What memory planning and code generation work on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from tvm import tirx

from targets.kernels.registry import Call
from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, same_dim

Space = Literal["arena", "weights", "io", "dims"]


@dataclass(eq=False)
class Buffer:
    """A run of bytes that kernels read or write.

    `index` is its place among inputs then outputs (io) or dim slots (dims).
    """

    name: str
    space: Space
    shape: tuple[Index, ...]
    dtype: str
    bytes: int  # at the largest
    index: int = -1
    offset: int = -1  # in the arena or in weights.bin, once planned
    data: Callable[[], np.ndarray] | None = None  # weights: made when they are written
    home: Buffer | None = None  # the buffer that holds this one's bytes, from byte `at` on; none: it has its own
    at: int = 0
    base: int = -1  # of a weight that can be streamed: its index into ctx->bases

    def root(self) -> tuple[Buffer, int]:
        """The buffer with bytes of its own that holds this one, and the byte where it begins there."""
        buffer, at = self, 0
        while buffer.home is not None:
            buffer, at = buffer.home, at + buffer.at
        return buffer, at


@dataclass(frozen=True)
class Part:
    """`part` has the bytes of `whole` from byte `at` on."""

    part: Buffer
    whole: Buffer
    at: int


@dataclass(frozen=True)
class Load:
    """A weight that is read from a flash of its own into `buffer`, in the arena, before the step that uses it."""

    weight: Buffer
    buffer: Buffer


@dataclass(eq=False)
class Step:
    """One kernel call: `buffers` in the order of the kernel's pointers; which of them it writes.

    call: what a template took, with the tiles it was given. parts: not empty where it only copies, and has nothing to
    do once each of these lies where it belongs.
    """

    name: str
    op: str
    nodes: list[str]
    stage: Stage
    buffers: list[Buffer]
    writes: set[int]  # positions in `buffers`
    macs: int = 0
    parts: list[Part] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    call: Call | None = None


@dataclass(eq=False)
class Port:
    """A graph input or output."""

    name: str
    shape: tuple[Index, ...]
    dtype: str
    bytes: int


@dataclass(eq=False)
class Program:
    """A model ready for planning and code generation.

    dims: every symbolic dimension in slot order: the inputs' first, then those known only at run time; `derived` are
    output dimensions that are expressions of those, and take the slots after them. split: what was done to fit a budget
    of memory (compiler/split/fit.py), where one was given. inside: inputs, by number, that have a place in the arena:
    the caller may hand them over there, and nothing else is written to it until they have been read.
    """

    inputs: list[Port]
    outputs: list[Port]
    steps: list[Step]
    dims: list[tirx.Var]
    input_dims: int
    bounds: dict[str, tuple[int, int]]
    alignment: int = 64  # bytes, of every buffer in the arena and every weight
    derived: list[tirx.Expr] = field(init=False, default_factory=list)
    split: dict[str, Any] | None = field(init=False, default=None)
    inside: dict[int, Buffer] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for dim in (d for port in self.outputs for d in port.shape if not isinstance(d, int)):
            if not any(same_dim(known, dim) for known in [*self.dims, *self.derived]):
                self.derived.append(dim)

    def buffers(self, space: Space) -> Iterator[Buffer]:
        """Every buffer of that space once, in order of first use."""
        seen: set[int] = set()
        for step in self.steps:
            for buffer in (*step.buffers, *(load.weight for load in step.loads)):
                if buffer.space == space and id(buffer) not in seen:
                    seen.add(id(buffer))
                    yield buffer

    def take_inputs_in(self) -> None:
        """Gives every input a place in the arena."""
        ports = enumerate(self.inputs)
        self.inside = {i: Buffer(p.name, "arena", p.shape, p.dtype, p.bytes, i) for i, p in ports}

    def is_written(self, buffer: Buffer) -> bool:
        """Whether steps make what is in it: not the caller, not the file of weights."""
        first = {"arena": 0, "io": len(self.inputs), "dims": self.input_dims}.get(buffer.space)
        return first is not None and (buffer.space == "arena" or buffer.index >= first)

    def slot(self, dim: tirx.Expr) -> int:
        """The slot that holds a symbolic dimension of an input or output."""
        return next(i for i, known in enumerate([*self.dims, *self.derived]) if same_dim(known, dim))
