"""The rows of a KV cache: which tokens they hold, and room for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgert.llm.cache.policies import Policy
from edgert.llm.cache.turn import Turner


class CacheRows:
    """Row i holds the token at position i. What an engine asks before it runs tokens, and tells afterwards."""

    def __init__(self, state: Mapping[str, np.ndarray], facts: Mapping[str, Any], rows: int, policy: Policy) -> None:
        """`state`: arrays [1, 2, groups, rows, ...] by name, keys first; `facts`: the manifest's entry `decoder`.

        Raises UsageError where the policy forgets, and keys of this artifact cannot be turned.
        """
        self.state, self.count, self.policy = state, rows, policy
        self.ids = np.zeros(rows, np.int64)
        """The token of each row in use."""
        self.forgotten = 0
        """Tokens of the text that are in no row any more."""
        self.gap = 0
        """The row before which they stood, if there are any."""
        self._turner = Turner(facts) if policy.endless else None

    def check(self, held: int, more: int) -> None:
        """Raise DoesNotFit where `more` tokens will never fit."""
        if not self.policy.endless:
            self.policy.forget(held, more, self.count)

    def make_room(self, held: int, more: int) -> int:
        """The number of rows in use after forgetting what the policy wants for `more` tokens, at most its at_once.

        What stood behind the forgotten moves down, its keys turned to their new positions. Raises DoesNotFit where the
        policy makes no room; nothing is changed then.
        """
        gone = self.policy.forget(held, more, self.count)
        if not gone:
            return held
        assert self._turner is not None and gone.start + len(gone) <= held
        self._turner.move_down(self.state, gone, held)
        held -= len(gone)
        self.ids[gone.start : held] = self.ids[gone.stop : held + len(gone)].copy()
        self.forgotten, self.gap = self.forgotten + len(gone), gone.start
        return held

    def put(self, at: int, ids: np.ndarray) -> None:
        """Note that the rows from `at` on hold `ids`."""
        self.ids[at : at + len(ids)] = ids

    def views(self, start: int, stop: int) -> list[np.ndarray]:
        """The rows [start, stop) of every array of the state."""
        return [array[:, :, :, start:stop] for array in self.state.values()]

    def pick(self, at: int, chosen: Sequence[int]) -> None:
        """Move the rows at + chosen[i], in rising order, to at + i."""
        rows = at + np.array(chosen)
        for array in self.state.values():
            array[:, :, :, at : at + len(chosen)] = array[:, :, :, rows]
        self.ids[at : at + len(chosen)] = self.ids[rows]

    def cut(self, held: int) -> None:
        """Note that only the first `held` rows are still in use."""
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
