"""Which regions to split into how many bands: for every amount of memory, the least extra work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .estimate import Estimate
from .regions import Region, Regions

COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
RUNGS = 64


@dataclass(frozen=True)
class Choice:
    """A region in `count` bands: estimated bytes at its fullest, and extra MACs."""

    region: Region
    count: int
    peak: int
    extra: int


@dataclass(frozen=True)
class Plan:
    """Regions that do not overlap, in order; the graph's estimated peak with them split, and the MACs they add."""

    choices: tuple[Choice, ...]
    peak: int
    extra: int


class Search:
    """Shortest paths through a graph's kernels: each runs whole, or within a region that is split."""

    def __init__(self, regions: Regions, estimate: Estimate) -> None:
        self.estimate = estimate
        self.count = len(estimate.groups)
        self._ending = [[] if stop == 0 else list(regions.ending(stop)) for stop in range(self.count + 1)]
        self._choices: dict[tuple[int, int, int], Choice | None] = {}

    def ladder(self) -> Iterator[Plan]:
        """Plans of ever less memory and ever more work, from nothing split to the least memory there is."""
        limit = max(self.estimate.plain, default=0)
        for _ in range(RUNGS):
            plan = self.within(limit)
            if plan is None:
                return
            yield plan
            limit = plan.peak - 1

    def within(self, limit: int) -> Plan | None:
        """The plan of the least extra work whose estimated peak is at most `limit` bytes."""
        best: list[tuple[int, int, Choice | None] | None] = [(0, 0, None)]  # extra, peak; how the last kernel ran
        for stop in range(1, self.count + 1):
            found: tuple[int, int, Choice | None] | None = None
            before, here = best[stop - 1], self.estimate.plain[stop - 1]
            if before is not None and here <= limit:
                found = (before[0], max(before[1], here), None)
            for region in self._ending[stop]:
                start = best[region.start]
                if start is None or max(self.estimate.plain[region.start : stop]) <= limit:
                    continue
                choice = self._choice(region, limit)
                if choice is not None:
                    offer = (start[0] + choice.extra, max(start[1], choice.peak), choice)
                    if found is None or offer[:2] < found[:2]:
                        found = offer
            best.append(found)
        last = best[self.count]
        if last is None:
            return None
        choices: list[Choice] = []
        at = self.count
        while at:
            entry = best[at]
            assert entry is not None
            if entry[2] is None:
                at -= 1
            else:
                choices.append(entry[2])
                at = entry[2].region.start
        return Plan(tuple(reversed(choices)), last[1], last[0])

    def _choice(self, region: Region, limit: int) -> Choice | None:
        """The fewest bands with which `region` stays within `limit`: more of them only add work."""
        if self.estimate.outside(region) > limit:
            return None
        for count in dict.fromkeys((*(c for c in COUNTS if c < region.size), region.size)):
            key = (region.start, region.stop, count)
            if key not in self._choices:
                made = self.estimate.region(region, count)
                self._choices[key] = None if made is None else Choice(region, count, *made)
            choice = self._choices[key]
            if choice is not None and choice.peak <= limit:
                return choice
        return None
