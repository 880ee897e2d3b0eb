"""Life times of buffers over an ordered list of steps, with views folded into the buffers they look into."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True)
class Step(Generic[Id]):
    """One step of the program: the ids of the buffers (or views) that it reads and writes.

    Scratch space of a kernel is a buffer that only its own step writes. Give lists or tuples rather than sets of
    strings, whose order changes from run to run, where the plan has to be reproducible.
    """

    reads: Collection[Id]
    writes: Collection[Id]


class Interval(NamedTuple):
    """The steps, both included, during which a root buffer must keep its bytes."""

    first: int
    last: int


class Aliases(Generic[Id]):
    """Union-find over views: which root buffer holds a view, and at which byte."""

    def __init__(self) -> None:
        self._parent: dict[Id, tuple[Id, int]] = {}

    def add(self, view: Id, of: Id, offset: int = 0) -> None:
        """Say that `view` begins `offset` bytes into `of` (itself a view or a root).

        Raises ValueError when `view` already is a view, when that would close a circle, or for a negative offset.
        """
        if offset < 0:
            raise ValueError(f"view {view!r} begins {-offset} bytes before {of!r}")
        if view in self._parent:
            raise ValueError(f"{view!r} is already a view of {self._parent[view][0]!r}")
        if self.find(of)[0] == view:
            raise ValueError(f"{view!r} cannot be a view of {of!r}, which is a view of it")
        self._parent[view] = (of, offset)

    def find(self, buffer: Id) -> tuple[Id, int]:
        """The root that holds `buffer` and the byte where it begins there; a root gives itself and 0."""
        path: list[tuple[Id, int]] = []
        root = buffer
        while root in self._parent:
            parent, offset = self._parent[root]
            path.append((root, offset))
            root = parent
        total = 0
        for view, offset in reversed(path):
            total += offset
            self._parent[view] = (root, total)
        return root, total


def liveness(
    steps: Sequence[Step[Id]], aliases: Aliases[Id] | None = None, external: Collection[Id] = ()
) -> dict[Id, Interval]:
    """Life time of every root buffer that `steps` touch, in order of first use.

    A root lives from the first step that writes it or any view of it to the last that touches it or any view.
    `external` are buffers with memory of their own (inputs, outputs, weights): they and their views are left out.

    Raises ValueError when a buffer is read before anything wrote it, or when an external buffer is a view of one
    that is not (its bytes would lie in the arena).
    """
    aliases = aliases or Aliases()
    outside = set(external)
    for buffer in external:
        root, _ = aliases.find(buffer)
        if root not in outside:
            raise ValueError(f"external buffer {buffer!r} is a view of {root!r}, which is not external")
    lives: dict[Id, Interval] = {}
    for number, step in enumerate(steps):
        roots = _roots(step.reads, aliases)
        for root in roots:
            if root not in lives and root not in outside:
                raise ValueError(f"step {number} reads {root!r}, which nothing wrote before")
        for root in roots + _roots(step.writes, aliases):
            if root not in outside:
                lives[root] = Interval(lives[root].first if root in lives else number, number)
    return lives


def _roots(buffers: Collection[Id], aliases: Aliases[Id]) -> list[Id]:
    return [aliases.find(buffer)[0] for buffer in buffers]


def root_sizes(sizes: Mapping[Id, int], aliases: Aliases[Id]) -> dict[Id, int]:
    """Bytes of each root: room for itself and the end of every view into it."""
    needed: dict[Id, int] = {}
    for buffer, size in sizes.items():
        root, offset = aliases.find(buffer)
        needed[root] = max(needed.get(root, 0), offset + size)
    return needed
