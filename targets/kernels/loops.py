"""Loop shapes shared by the kernels: axes merged and split into tasks, spans in vectors with a tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tvm import tirx

from .access import Access
from .builder import Builder
from .tensor import Index, as_expr, product, simplify

GRAIN = 8192  # elements below which a thread is not worth waking
ENOUGH_TASKS = 64  # leading axes form the parallel loop until there are this many tasks; the others stay plain loops

Emit = Callable[[tirx.Expr], None]


def ceil_div(a: Index, b: int) -> Index:
    """a / b rounded up."""
    return simplify((a + (b - 1)) // b)


def unflatten(position: tirx.Expr, shape: Sequence[Index]) -> list[tirx.Expr]:
    """The indices of row-major `position` in `shape`."""
    indices: list[tirx.Expr] = []
    for extent in reversed(shape[1:]):
        size = as_expr(extent, "int64")
        indices.append(tirx.truncmod(position, size))
        position = tirx.truncdiv(position, size)
    return [position, *reversed(indices)] if shape else []


@dataclass(eq=False)
class Axes:
    """Axes of an expression with neighbours merged: groups[g] are the original axes of merged axis g of extents[g]."""

    original: list[Index]
    groups: list[list[int]]
    extents: list[Index]

    def indices(self, at: Sequence[Index]) -> list[tirx.Expr]:
        """Original indices for merged ones.

        The last axis of a group takes the whole position and the others are 0: it may run past its extent, which gives
        the same address, for only axes with equal address functions are merged.
        """
        result: list[tirx.Expr] = [as_expr(0, "int64")] * len(self.original)
        for group, index in zip(self.groups, at, strict=True):
            result[group[-1]] = as_expr(index)
        return result

    def last(self, group: int) -> int:
        """The innermost original axis of a group."""
        return self.groups[group][-1]


def merge_axes(access: Access, axes: Sequence[int]) -> Axes:
    """Merges the neighbours among `axes` (consecutive numbers) that one loop can walk; drops those of extent 1."""
    first = axes[0] if axes else 0
    groups: list[list[int]] = []
    extents: list[Index] = []
    kept = [a for a in axes if access.extents[a] != 1]
    for a in kept:
        if groups and groups[-1][-1] == a - 1 and access.mergeable(a - 1):
            groups[-1].append(a)
            extents[-1] = product([extents[-1], access.extents[a]])
        else:
            groups.append([a])
            extents.append(access.extents[a])
    original = [access.extents[a] for a in axes]
    return Axes(original, [[a - first for a in group] for group in groups], extents)


def span(b: Builder, count: Index, lanes: int, emit: Emit, start: Index = 0, smallest: int = 1) -> None:
    """Runs `emit(index)` for start <= index < start + count, in vector loops of `lanes` and then narrower ones."""
    whole, rest = split(count, lanes)
    if whole != 0:
        with b.serial(whole, "j") as j, b.vector(lanes) as v:
            emit(start + j * lanes + v)
    at = start + whole * lanes
    if not isinstance(rest, int):
        with b.serial(rest, "r") as r:
            emit(at + r)
        return
    width = lanes
    while rest:
        width //= 2
        if rest >= width:
            with b.vector(width) as v:
                emit(at + v)
            at, rest = at + width, rest - width


def split(count: Index, lanes: int) -> tuple[Index, Index]:
    """How many whole vectors, and how many elements are left over."""
    if isinstance(count, int):
        return count // lanes, count % lanes
    return tirx.floordiv(count, tirx.const(lanes, "int64")), tirx.floormod(count, tirx.const(lanes, "int64"))


@contextmanager
def tasks(b: Builder, extents: Sequence[Index], work: int = 1) -> Iterator[list[tirx.Expr]]:
    """Loops over `extents`: the leading axes as the parallel loop, the rest plain. `work`: elements of a step."""
    count, cut = 1, 0
    while cut < len(extents) and count < ENOUGH_TASKS:
        extent = extents[cut]
        count, cut = count * (extent if isinstance(extent, int) else ENOUGH_TASKS), cut + 1
    inner = work
    for extent in extents[cut:]:
        inner *= extent if isinstance(extent, int) else 8
    with ExitStack() as stack:
        if cut == 0:
            stack.enter_context(b.parallel(1))
            yield []
            return
        p = stack.enter_context(b.parallel(product(extents[:cut]), max(1, GRAIN // max(1, inner))))
        place = unflatten(p, extents[:cut])
        yield [*place, *(stack.enter_context(b.serial(e, "i")) for e in extents[cut:])]
