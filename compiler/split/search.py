"""Which regions to split into how many bands: for every amount of memory, the least extra work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from .estimate import Estimate
from .regions import Region, Regions

COUNTS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
STEP = 0.03  # by how much each plan of the ladder is to take less than the one before


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
        self._choices: dict[tuple[int, int, bool, int], Choice | None] = {}

    def ladder(self) -> Iterator[Plan]:
        """Plans of ever less memory and ever more work, from nothing split to the least memory there is."""
        plan = self.within(max(self.estimate.plain, default=0))
        step = STEP
        while plan is not None:
            yield plan
            least = plan.peak
            plan = self.within(min(least - 1, int(least * (1 - step))))
            while plan is None and step * least > 1:
                step /= 4
                plan = self.within(min(least - 1, int(least * (1 - step))))

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
        """The fewest bands with which `region` stays within `limit`: more of them take less and only add work."""
        if self.estimate.outside(region) > limit:
            return None
        counts = [count for count in COUNTS if count <= region.most]
        if not counts or not self._fits(region, counts[-1], limit):
            return None
        at = bisect_left(counts, True, key=lambda count: self._fits(region, count, limit))
        return self._estimated(region, counts[at])

    def _fits(self, region: Region, count: int, limit: int) -> bool:
        choice = self._estimated(region, count)
        return choice is not None and choice.peak <= limit

    def _estimated(self, region: Region, count: int) -> Choice | None:
        key = (region.start, region.stop, region.heads, count)
        if key not in self._choices:
            made = self.estimate.region(region, count)
            self._choices[key] = None if made is None else Choice(region, count, *made)
        return self._choices[key]
