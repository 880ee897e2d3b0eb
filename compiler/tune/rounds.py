"""Tile sizes by rounds: in each, every kernel of a model has its next candidate, and one profile times them all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from compiler.program import Program
from targets.kernels.registry import Call
from targets.microcontroller import Microcontroller
from targets.target import Target

from .records import Records, call_key
from .space import WORTH, Tiles, bare_stages, space_of


class Rounds:
    """The candidates of every kernel of a model that has any, and what they took.

    `tiles(n)` is what `compile_model` asks in round n; round 0 has the templates' own sizes. Kernels on record are left
    as they are. On microcontrollers instructions are counted, exactly, so that any gain counts.
    """

    def __init__(self, target: Target, records: Records, trials: int) -> None:
        self.target, self.records, self.trials = target, records, trials
        self.exact = isinstance(target, Microcontroller)
        self.before = frozenset(records.found)
        self.known: dict[str, Call] = {}  # what is to be tuned, by its key in the records
        self.candidates: dict[str, list[Tiles]] = {}
        self.times: dict[str, dict[int, float]] = {}  # key -> round -> nanoseconds or instructions of one call

    def tiles(self, number: int) -> Any:
        """A function of a call that gives its tiles in that round."""

        def choose(call: Call) -> Tiles:
            return self.records(call) if call_key(call) in self.before else self._candidate(call, number)

        return choose

    def _candidate(self, call: Call, number: int) -> Tiles:
        key = call_key(call)
        if key not in self.candidates:
            self.known[key], self.candidates[key] = call, self._space(call)
        own = self.candidates[key]
        return own[number - 1] if 0 < number <= len(own) else {}

    def _space(self, call: Call) -> list[Tiles]:
        template, candidates = space_of(call, self.target)
        if template is None:
            return []
        if self.exact:  # kernels that need the call's tail to know whether they take it
            return candidates[: self.trials]
        taken = (config for config in candidates if bare_stages(template, call, config, self.target))
        return list(islice(taken, self.trials))

    @property
    def count(self) -> int:
        """Rounds that there are, once round 0 was compiled."""
        return 1 + max(map(len, self.candidates.values()), default=0)

    def learn(self, number: int, program: Program, costs: Sequence[int]) -> None:
        """What the steps of a round's program took. Records what is best so far and saves it."""
        sums: dict[str, tuple[float, set[int]]] = {}
        for step, taken in zip(program.steps, costs, strict=True):
            if step.call is not None and (key := call_key(step.call)) in self.known:
                total, calls = sums.get(key, (0.0, set()))
                sums[key] = total + taken, calls | {id(step.call)}
        for key, (total, calls) in sums.items():
            if number and number > len(self.candidates[key]):
                continue  # had its own sizes once more
            self.times.setdefault(key, {})[number] = total / len(calls)
        for key, times in self.times.items():
            if 0 in times and self.candidates[key]:
                best = min(times, key=lambda n: times[n])
                chosen = best if times[best] < (1 if self.exact else WORTH) * times[0] else 0
                config = self.candidates[key][chosen - 1] if chosen else {}
                unit, each = ("instructions", 1.0) if self.exact else ("us", 1e3)
                self.records.add(self.known[key], config, times[chosen] / each, times[0] / each, unit)

    def save(self) -> None:
        """Writes the records."""
        self.records.save()
