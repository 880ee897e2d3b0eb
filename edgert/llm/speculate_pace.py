"""How many guesses are worth checking: by how often such guesses held so far, and by what a pass over them takes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

RECENT = 8  # passes of a size whose fastest counts: others were slowed by something else
STEP = 0.09  # what another token is taken to add to a pass of a size that was never timed


class Confidence:
    """How often guesses of a kind hold, learned as the text goes on. `prior`: the share to begin with, by kind; it
    counts as `weight` guesses. Guesses that were not checked count too, as far as the text has shown."""

    def __init__(self, prior: Sequence[float], weight: float = 2.0) -> None:
        self._held = [weight * share for share in prior]
        self._seen = [weight] * len(prior)
        self._size, self._tokens, self._kinds = 0, list[int](), list[int]()

    def settle(self, context: Sequence[int]) -> None:
        """Learn from what came after the last proposal."""
        for guess, kind, token in zip(self._tokens, self._kinds, context[self._size :], strict=False):
            self._seen[kind] += 1
            if guess != token:
                break
            self._held[kind] += 1
        self._tokens = []

    def propose(self, context: Sequence[int], tokens: Sequence[int], kinds: Sequence[int]) -> list[float]:
        """Each guess's share if those before it hold."""
        self._size, self._tokens, self._kinds = len(context), list(tokens), list(kinds)
        return [self._held[kind] / self._seen[kind] for kind in self._kinds]


class Pace:
    """What passes took, by their number of tokens."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))

    def timed(self, tokens: int, seconds: float) -> None:
        """Note a pass."""
        self._seconds[tokens].append(seconds)

    def cost(self, tokens: int) -> float:
        """Of a pass over `tokens`: as measured, or from the nearest size that was."""
        if not self._seconds:
            return 1 + STEP * (tokens - 1)
        near = min(self._seconds, key=lambda size: (abs(size - tokens), size))
        return min(self._seconds[near]) * (1 + STEP * (tokens - 1)) / (1 + STEP * (near - 1))

    def length(self, shares: Sequence[float]) -> int:
        """The number of guesses of a chain that gives the most tokens a second; a pass gives one more than hold."""
        gain, worth, best = 1.0, 1.0, (1 / self.cost(1), 0)
        for count, share in enumerate(shares, 1):
            worth *= share
            gain += worth
            best = max(best, (gain / self.cost(1 + count), -count))
        return -best[1]
