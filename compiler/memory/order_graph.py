"""What an ordering search works on: units of nodes that stay together, which of them come first, which bytes live when.

Sets of units are bits of an int: a set closed under "comes before" (a downset) is a state of the search, and the bytes
alive after it do not depend on the order within it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from compiler.memory.liveness import Aliases, root_sizes

Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True)
class Node(Generic[Id]):
    """One thing to run: the buffers that it reads and writes, and bytes that it needs only meanwhile.

    over: pairs (read, written) of buffers of one size, where the written one may take the place of the read one if
    nothing reads that afterwards.
    """

    reads: Collection[Id]
    writes: Collection[Id]
    scratch: int = 0
    over: Collection[tuple[Id, Id]] = ()


@dataclass
class _Moment:
    """One node within its unit, by roots: what may begin, what it needs for itself, what may end."""

    begins: list[int] = field(default_factory=list)
    scratch: int = 0
    ends: list[int] = field(default_factory=list)
    over: list[tuple[int, int]] = field(default_factory=list)


class Graph(Generic[Id]):
    """Units 0, 1, ... in the given order, which is one of the orders allowed.

    Raises ValueError where a node reads what nothing wrote before, or where `together` is no partition into runs.
    """

    def __init__(
        self, nodes: Sequence[Node[Id]], sizes: Mapping[Id, int], kept: Collection[Id], initial: Collection[Id],
        aliases: Aliases[Id] | None, together: Sequence[int] | None,
    ) -> None:  # fmt: skip
        self.units = _units(len(nodes), together)
        self.count = len(self.units)
        aliases = aliases or Aliases()
        whole = root_sizes({b: sizes[b] for node in nodes for b in [*node.reads, *node.writes]}, aliases)
        number = {root: i for i, root in enumerate(whole)}
        self.sizes = list(whole.values())

        def root(buffer: Id) -> int:
            return number[aliases.find(buffer)[0]]

        known = [b for b in [*kept, *initial] if aliases.find(b)[0] in number]
        self.kept = {root(b) for b in kept if b in known}
        self.initial = {root(b) for b in initial if b in known}
        self.users = [0] * len(self.sizes)  # units that touch a root
        self.moments: list[list[_Moment]] = []
        self._touched: list[list[int]] = []
        for unit, members in enumerate(self.units):
            moments, last = [], {}
            for index in members:
                node, moment = nodes[index], _Moment(scratch=nodes[index].scratch)
                written = dict.fromkeys(root(b) for b in node.writes)
                for r in [*dict.fromkeys(root(b) for b in node.reads), *written]:
                    self.users[r] |= 1 << unit
                    if r in written and r not in last and r not in self.initial:
                        moment.begins.append(r)
                    last[r] = moment
                moment.over = [(root(a), root(b)) for a, b in node.over]
                moments.append(moment)
            self._touched.append(list(last))
            for r, moment in last.items():
                if r not in self.kept:
                    moment.ends.append(r)
            self.moments.append(moments)
        self.before = _dependencies(nodes, self.units, sizes, aliases, set(initial))
        self.after: list[list[int]] = [[] for _ in self.units]
        self._earlier, self._later = list(self.before), [0] * self.count
        for unit, mask in enumerate(self.before):
            for other in bits(mask):
                self.after[other].append(unit)
                self._earlier[unit] |= self._earlier[other]
        for unit in reversed(range(self.count)):
            for other in self.after[unit]:
                self._later[unit] |= self._later[other] | 1 << other
        self.start = sum(self.sizes[r] for r in self.initial)
        self.all = (1 << self.count) - 1

    def run(self, done: int, live: int, unit: int, left: int | None = None) -> tuple[int, int]:
        """Most bytes alive while `unit` runs after the units `done`, which left `live` alive; and bytes alive then.

        left: the units still to run, all others where not given.
        """
        sizes, users = self.sizes, self.users
        if left is None:
            left = ~(done | 1 << unit)
        peak = live
        for moment in self.moments[unit]:
            begun = live
            for r in moment.begins:
                if not users[r] & done:
                    live += sizes[r]
            most = live + moment.scratch
            if moment.over and live > begun:
                most -= self._saved(moment, done, left)
            if most > peak:
                peak = most
            for r in moment.ends:
                if not users[r] & left:
                    live -= sizes[r]
        return peak, live

    def _saved(self, moment: _Moment, done: int, left: int) -> int:
        """Bytes of results that take the place of what dies in this moment."""
        saved = 0
        used: set[int] = set()
        for read, written in moment.over:
            fits = written in moment.begins and not self.users[written] & done
            dies = read in moment.ends and not self.users[read] & left
            if fits and dies and not used & {read, written}:
                used |= {read, written}
                saved += self.sizes[written]
        return saved

    def peak(self, order: Sequence[int], done: int = 0, live: int | None = None) -> tuple[int, int]:
        """Most bytes alive while units run in `order` after `done`; and bytes alive at the end."""
        live = self.start if live is None else live
        peak = live
        for unit in order:
            most, live = self.run(done, live, unit)
            peak, done = max(peak, most), done | 1 << unit
        return peak, live

    def floor(self, unit: int) -> int:
        """Bytes that are alive while `unit` runs, in whatever order: what its nodes touch, and that is all."""
        before = self.earlier(unit)
        live = sum(self.sizes[r] for r in self._touched[unit] if self.users[r] & before or r in self.initial)
        return self.run(before, live, unit, self.later(unit))[0]

    def earlier(self, unit: int) -> int:
        """All that has to run before `unit`."""
        return self._earlier[unit]

    def later(self, unit: int) -> int:
        """All that has to run after `unit`."""
        return self._later[unit]


def bits(mask: int) -> list[int]:
    """The members of a set, lowest first."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _units(count: int, together: Sequence[int] | None) -> list[list[int]]:
    """Runs of nodes with one label."""
    labels = list(together) if together is not None else list(range(count))
    if len(labels) != count:
        raise ValueError(f"{len(labels)} labels for {count} nodes")
    units: list[list[int]] = []
    for i, label in enumerate(labels):
        if i and labels[i - 1] == label:
            units[-1].append(i)
        else:
            units.append([i])
    if len(units) != len(set(labels)):
        raise ValueError("nodes that stay together have to stand together in the given order")
    return units


def _dependencies(
    nodes: Sequence[Node[Id]], units: list[list[int]], sizes: Mapping[Id, int], aliases: Aliases[Id], initial: set[Id]
) -> list[int]:  # fmt: skip
    """For every unit the units that must run before it, not necessarily directly: whoever wrote what it touches, and
    whoever read what it writes.
    """
    # root -> (first byte, end, unit) of all that read it, and of all that write it
    accesses: dict[Id, tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]] = {}
    ready = {aliases.find(b)[0] for b in initial}
    before = []
    for unit, members in enumerate(units):
        mask = 0
        for index in members:
            node = nodes[index]
            for writes, buffers in ((False, node.reads), (True, node.writes)):
                for b in buffers:
                    root, at = aliases.find(b)
                    end = at + sizes[b]
                    readers, writers = accesses.setdefault(root, ([], []))
                    found = bool(writes or root in ready)
                    for first, last, other in [*writers, *readers] if writes else writers:
                        if first < max(end, at + 1) and at < max(last, first + 1):
                            mask |= 1 << other
                            found = True
                    if not found:
                        raise ValueError(f"node {index} reads {b!r}, which nothing wrote before")
                    (writers if writes else readers).append((at, end, unit))
        before.append(mask & ~(1 << unit))
    return before
