"""What a run reads of its weights, and when: the manifest's entry `stream`, as the planner and the runtime want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from flashload.layout import LEAST, PAGE, Segment, up


@dataclass(frozen=True)
class Visit:
    """Units [begin, end) of a step's `units` equal runs of tasks, and the (segment, weight) pairs that they read."""

    step: int
    begin: int
    end: int
    units: int
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Lookup:
    """A step whose task i reads row indices[i] of a table of `size` bytes and `extent` rows, of which `rows` lie
    together in `bytes`.

    The indices, of `item_bytes`, are input number `io`, or, that being -1, at byte `at` of the arena. chosen: they
    ascend and end with `extent`; of a row's bytes, `used` are kept in memory. ahead: the byte of the arena where
    the rows are that the next such table will likely be asked for; -1: nobody knows. ends: the indices end with
    `extent`; tasks from there on read none. A step with several tables has them one after the other.

    The numbers stand in the order of edgert/native/stream.h.
    """

    step: int
    weight: int
    offset: int
    size: int
    extent: int
    rows: int
    bytes: int
    io: int
    at: int
    item_bytes: int
    chosen: int = 0
    used: int = 0
    ahead: int = -1
    ends: int = 0

    @property
    def whole(self) -> bool:
        """Whether chosen rows are so large that each is a segment and stays by itself: experts."""
        return bool(self.chosen) and self.used == self.bytes and self.bytes >= LEAST and self.bytes % PAGE == 0


@dataclass(frozen=True)
class Stream:
    """weights: how many have a base of their own. visits: in the order of a run. arena: n, m and the bytes of
    the arena that are touched while the first open dimension is at most n and the second, if any, at most m."""

    weights: int
    segments: tuple[Segment, ...]
    visits: tuple[Visit, ...]
    lookups: tuple[Lookup, ...]
    arena: tuple[tuple[int, int, int], ...] = ()

    @cached_property
    def resident_bytes(self) -> int:
        """What stays in memory whatever the budget."""
        return sum(up(s.size, PAGE) for s in self.segments if s.resident)

    @cached_property
    def table_only_bytes(self) -> int:
        """Of segments that are only looked up in."""
        return sum(up(s.size, PAGE) for s in self.segments) - self.resident_bytes - self.streamed_bytes

    def chosen_read(self, kept: int) -> int:
        """The most that a run reads of tables whose rows are chosen, when so many bytes of rows stay."""
        rows = [table for table in self.lookups if table.chosen]
        need = sum(table.extent * (table.used + SLOT) for table in rows)
        return int(sum(table.size for table in rows) * max(0, need - kept) / need) if rows else 0

    @cached_property
    def streamed_bytes(self) -> int:
        """What a run reads when nothing more stays."""
        seen = {segment for visit in self.visits for segment, _ in visit.pieces}
        return sum(up(self.segments[i].size, PAGE) for i in seen if not self.segments[i].resident)

    def sizes(self, visit: Visit) -> list[int]:
        """Bytes of a visit's segments that are not resident, in whole pages."""
        sizes = [self.segments[i] for i, _ in visit.pieces]
        return [up(s.size, PAGE) for s in sizes if not s.resident]

    @cached_property
    def least_ring(self) -> int:
        """Bytes of the smallest ring: the largest visit, of which one segment may have to start over at its begin."""
        return self._ring(self.visits)

    @cached_property
    def large_bytes(self) -> int:
        """Bytes of visits that stay whole where there is room for all of them."""
        return sum(sum(self.sizes(v)) for v in self.visits if self.large(v))

    @cached_property
    def small_ring(self) -> int:
        """As `least_ring` when large visits stay."""
        return self._ring([v for v in self.visits if not self.large(v)])

    def large(self, visit: Visit) -> bool:
        """Whether a visit comes in one large part, which would need a large ring."""
        return sum(self.sizes(visit)) > LARGE

    def _ring(self, visits: Sequence[Visit]) -> int:
        return max((sum(sizes) + max(sizes) for v in visits if (sizes := self.sizes(v))), default=0)

    @cached_property
    def table_bytes(self) -> int:
        """What the runtime holds for looking up rows: the latest blocks, a mark of each, one whole segment."""
        rows = [table for table in self.lookups if table.chosen and not table.whole]
        found = sum(table.extent * CHOSEN for table in rows)
        found += sum(table.bytes + table.extent * EXPERT for table in self.lookups if table.whole)
        found += max((up(t.size, PAGE) + PAGE + t.extent * RANGE for t in rows), default=0)
        tables = {(t.offset, t.size, t.bytes) for t in self.lookups if not t.chosen}  # steps share what they look up
        for _, size, each in tables:
            found += SLOTS * (up(each, PAGE) + PAGE) + 9 * -(-size // each)
        parts = [(offset, offset + size) for offset, size, _ in tables]
        whole = (s.size for s in self.segments for begin, end in parts if s.offset < end and begin < s.offset + s.size)
        return found + up(max(whole, default=0), PAGE)


SLOTS = 32  # of lookup.c
CHOSEN, SLOT, RANGE = 4 + 2 + 8 + 1, 4, 32  # bytes of chosen.c for a row of each table, and of a range to read

EXPERT = 64  # of experts.c: a row's marks, and ranges to read

GROUP, LARGE = 1 << 20, 1 << 20  # of stays.c and stream.h


def chosen(stream: Stream, pinned_bytes: int) -> list[bool]:
    """Which segments stay in memory when `pinned_bytes` of those that need not may: as stays.c chooses them, large
    visits, the rest spread evenly over a run, in groups, so that what is read is long runs of the file."""
    stays = [s.resident for s in stream.segments]
    sizes = [up(s.size, PAGE) for s in stream.segments]
    if stream.large_bytes <= pinned_bytes:
        for i in {i for visit in stream.visits if stream.large(visit) for i, _ in visit.pieces if not stays[i]}:
            stays[i], pinned_bytes = True, pinned_bytes - sizes[i]
    pieces = [i for visit in stream.visits for i, _ in visit.pieces if not stays[i]]
    total, seen, pinned, at = sum(sizes[i] for i in pieces), 0, 0, 0
    while at < len(pieces):
        begin, group = at, 0
        while at < len(pieces) and group < GROUP:
            group, at = group + sizes[pieces[at]], at + 1
        seen += group
        if pinned + group <= pinned_bytes and (pinned + group) * total <= seen * pinned_bytes:
            pinned += group
            for i in pieces[begin:at]:
                stays[i] = True
    for i in pieces:  # what is left of the budget
        if not stays[i] and pinned + sizes[i] <= pinned_bytes:
            stays[i], pinned = True, pinned + sizes[i]
    chosen = [(table.offset, table.offset + table.size) for table in stream.lookups if table.chosen]
    for i, size in enumerate(sizes):  # tables of rows come last: most of them is never read
        if any(begin <= stream.segments[i].offset < end for begin, end in chosen):
            continue
        if not stays[i] and pinned >= total and pinned + size <= pinned_bytes:
            stays[i], pinned = True, pinned + size
    return stays


def ring_jobs(stream: Stream, stays: Sequence[bool]) -> list[list[int]]:
    """Bytes of each visit's segments that come through the ring."""
    return [[up(stream.segments[i].size, PAGE) for i, _ in visit.pieces if not stays[i]] for visit in stream.visits]
