"""What a kernel template gives back: stages, each one kernel call with the buffers that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from tvm_ffi import StructuralKey

from .reading import Reading
from .tensor import Index, Tensor

if TYPE_CHECKING:
    from tvm import tirx


LLVM = "edgert.llvm"  # attribute of a kernel's function: LLVM IR of functions that it calls


@dataclass(eq=False)
class Temp:
    """Scratch in the arena that lives from the first to the last stage of one group that names it."""

    shape: tuple[Index, ...]
    dtype: str
    name: str = "scratch"


@dataclass(eq=False)
class Const:
    """Data made at compile time (packed weights, tables).

    `make` runs when weights.bin is written, one tensor at a time. again: gives what the same kernel takes for other
    inputs, by what stands for this one's and the other call's attributes, or None where it takes another form;
    None: not known (see compiler/repeats.py).
    """

    shape: tuple[int, ...]
    dtype: str
    make: Callable[[], np.ndarray]
    key: str  # equal keys hold equal bytes, so they are stored once
    name: str = "const"
    again: Callable[[Callable[[Tensor], Tensor], dict[str, Any]], Const | None] | None = None


def fixed(const: Const) -> Const:
    """`const`, which is the same whatever a kernel's inputs are."""
    const.again = lambda to, attrs: const
    return const


Leaf = Tensor | Temp | Const


def stored_dtype(leaf: Leaf) -> str:
    """The type of a leaf's elements in memory."""
    return (leaf.stored if isinstance(leaf, Tensor) else "") or leaf.dtype


@dataclass(frozen=True)
class Slide:
    """Operand `read` may lie in the memory of operand `written`, from byte `at` on, and reach beyond its end."""

    read: int
    written: int
    at: int


@dataclass(eq=False)
class Stage:
    """One kernel call.

    `func` takes a pointer for each of `operands`, then the int64 `dims`, then begin and end of the outermost loop,
    whose extent is `tasks` (1: the kernel has no parallel loop). The runtime gives a thread at least `grain`
    iterations. workgroup: not 0 for a kernel of a graphics processor, which has neither begin nor end: it is launched
    on `tasks` work items, so many a group. For in_place.py: once says that every element of the result is stored once,
    by one iteration; slide, that run in order by one thread it only ever overwrites what it has read.
    """

    kernel: str
    func: tirx.PrimFunc
    operands: list[Leaf]
    dims: list[tirx.Var]
    tasks: Index = 1
    grain: int = 1
    workgroup: int = 0
    text: str | None = None  # the function as text, once somebody asked
    once: bool = False
    slide: Slide | None = None
    reading: Reading = field(default_factory=Reading)


@lru_cache(1024)
def structure(func: tirx.PrimFunc) -> StructuralKey:
    """What equal functions have in common; found once for each function that kernels share."""
    return StructuralKey(func)  # type: ignore[call-arg]
