"""The rows of a KV cache: which tokens they hold, and room for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgert.errors import DoesNotFit, UsageError
from edgert.llm.cache.folding import Folding
from edgert.llm.cache.groups import Groups
from edgert.llm.cache.policies import Policy
from edgert.llm.cache.turn import Turner
from edgert.llm.cache.watch import Watcher


class CacheRows:
    """Row i holds the token at position i. What an engine asks before it runs tokens, and tells afterwards."""

    def __init__(self, state: Mapping[str, np.ndarray], facts: Mapping[str, Any], rows: int, policy: Policy) -> None:
        """`state`: arrays [1, 2, groups, rows, ...] by name, keys first; `facts`: the manifest's entry `decoder`.

        Raises UsageError where the policy forgets, and keys of this artifact cannot be turned.
        """
        self.state, self.count, self.policy = state, rows, policy
        groups = Groups.of(facts)
        self.folding = None if groups is None else Folding(groups, state, int(facts["layers"]))
        self.ids = np.zeros(rows, np.int64)
        """The token of each row in use."""
        self.forgotten = 0
        """Tokens of the text that are in no row any more."""
        self.gap = 0
        """The row before which they stood, if there are any."""
        watches = int(facts.get("watches", 0))
        if bool(watches) != bool(policy.chooses):
            raise UsageError(
                "rows are chosen by attention in a cache that keeps queries (program f16q), and only there"
            )
        self._turner = Turner(facts) if policy.endless else None
        self._watcher = Watcher(state, int(facts["layers"]), watches) if watches else None
        self._most = int(facts["context"]) if watches else rows  # tokens of a text that forgets but is not endless
        names = [f"cache.{i}" for i in range(int(facts["layers"]))] if watches else list(state)
        self._arrays = [state[name] for name in names]
        """Those that have rows."""

    def check(self, held: int, more: int) -> None:
        """Raise DoesNotFit where `more` tokens will never fit."""
        if self._watcher is None and not self.policy.endless:
            self.policy.forget(held, more, self.count)
        elif (end := self.forgotten + held + more) > self._most and not self.policy.endless:
            raise DoesNotFit(f"{end} tokens do not fit a context of {self._most}")

    def room(self, held: int) -> int | None:
        """How many more tokens fit; None: as many as come."""
        return None if self.policy.endless else self._most - held - self.shift

    @property
    def shift(self) -> int:
        """How far a token's position is from its row."""
        return self.forgotten if self._watcher is not None else 0

    def make_room(self, held: int, more: int) -> int:
        """The number of rows in use after forgetting what the policy wants for `more` tokens, at most its at_once.

        What stood behind the forgotten moves down, its keys turned to their new positions. Raises DoesNotFit where the
        policy makes no room; nothing is changed then.
        """
        if gone := self.policy.forget(held, more, self.count):
            assert gone.start + len(gone) <= held
            if self._watcher is not None:
                latest = self.policy.chooses
                self._watcher.keep(held, gone.start, latest, held - gone.start - latest - len(gone))
            else:
                assert self._turner is not None
                self._turner.move_down(self.state, gone, held, self.folding)
            held -= len(gone)
            self.ids[gone.start : held] = self.ids[gone.stop : held + len(gone)].copy()
            self.forgotten, self.gap = self.forgotten + len(gone), gone.start
        if self.folding is not None:
            self.folding.advance(held, more)
        return held

    def place(self, held: int) -> int:
        """How many more rows fit before the first ones are forgotten or folded."""
        room = self.count - held
        return room if self.folding is None else min(room, self.folding.place(held))

    def put(self, at: int, ids: np.ndarray) -> None:
        """Note that the rows from `at` on hold `ids`."""
        self.ids[at : at + len(ids)] = ids

    def views(self, start: int, stop: int) -> list[np.ndarray]:
        """The rows [start, stop) of every array of the state. Raises UsageError where they lie in groups."""
        if self.folding is not None:
            raise UsageError("this cache keeps rows in groups, which cannot be taken apart: take fp16 or int8")
        return [array[:, :, :, start:stop] for array in self._arrays]

    def pick(self, at: int, chosen: Sequence[int]) -> None:
        """Move the rows at + chosen[i], in rising order, to at + i."""
        rows, to = at + np.array(chosen), at + np.arange(len(chosen))
        self.ids[to] = self.ids[rows]
        arrays = self._arrays
        if self.folding is not None:
            rows, to, arrays = *map(self.folding.window_rows, (rows, to)), self.folding.windows
        for array in arrays:
            array[:, :, :, to] = array[:, :, :, rows]

    @property
    def folded(self) -> int:
        """Rows that are folded into groups."""
        return 0 if self.folding is None else self.folding.folded

    @folded.setter
    def folded(self, rows: int) -> None:
        if self.folding is not None:
            self.folding.counts[:] = rows

    def may_fold(self, held: int, folded: int) -> bool:
        """Whether so many of `held` rows can be folded here."""
        return folded == 0 if self.folding is None else self.folding.possible(held, folded)

    def saved(self, held: int, folded: int) -> list[np.ndarray]:
        """Views of what tells a text of `held` rows: of every array its rows in use, by its name's order."""
        names = sorted(self.state)
        if self.folding is None:
            rowed = {id(array) for array in self._arrays}
            arrays = [self.state[name] for name in names]
            return [array[:, :, :, :held] if id(array) in rowed else array for array in arrays]
        windows = {f"cache.{i}" for i in range(len(self.folding.windows))}
        return [self.state[name][:, :, :, : held - folded if name in windows else folded] for name in names]

    def cut(self, held: int) -> None:
        """Note that only the first `held` rows are still in use."""
        if self.folding is not None:
            self.folding.cut(held)
        if held <= self.gap:
            self.forgotten, self.gap = 0, 0

    def common(self, held: int, ids: Sequence[int] | np.ndarray) -> int:
        """How many of the first tokens of the text that the cache holds `ids` begin with, at most all but the last.

        Rows behind a gap hold what was computed after tokens that are gone, so they do not count.
        """
        most = min(self.gap if self.forgotten else held, len(ids) - 1)
        given = np.asarray(ids[:most], np.int64)
        differ = np.flatnonzero(given != self.ids[: len(given)])
        return int(differ[0]) if len(differ) else len(given)
