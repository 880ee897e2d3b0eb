"""Training-free speculation: guesses at the next tokens, checked by one pass of the model over all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Protocol

import numpy as np

from edgert.llm.engine_api import NO_PARENT, Engine


@dataclass(frozen=True)
class Draft:
    """A tree of guesses. parents[i] < i is the index of the token before tokens[i]; NO_PARENT: the context's last.

    Of a chain, `shares` may say how likely each guess is to hold if those before it do; empty: not known."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    @property
    def expected(self) -> float:
        """How many guesses are likely to hold; of a tree 1, if it has any."""
        return sum(accumulate(self.shares, mul)) if self.shares else min(1.0, len(self.tokens))

    def head(self, count: int) -> "Draft":
        """Its first `count` guesses."""
        return Draft(self.tokens[:count], self.parents[:count], self.shares[:count])


class Drafter(Protocol):
    """Where guesses come from."""

    def draft(self, context: Sequence[int], most: int) -> Draft:
        """At most `most` guesses at what follows `context` (prompt and text so far)."""

    def observe(self, ids: Sequence[int], logits: np.ndarray) -> None:
        """Learn from a pass of the model: logits [n, vocab], row i after ids[i]; or [n], the likeliest tokens alone."""


class BestOf:
    """The guesses of the drafter that expects most of them to hold, the first among equals; all of them learn."""

    def __init__(self, *drafters: Drafter) -> None:
        self._drafters = drafters

    def draft(self, context: Sequence[int], most: int) -> Draft:
        """At most `most` guesses, of one drafter."""
        return max((drafter.draft(context, most) for drafter in self._drafters), key=lambda draft: draft.expected)

    def observe(self, ids: Sequence[int], logits: np.ndarray) -> None:
        """Let every drafter learn from a pass."""
        for drafter in self._drafters:
            drafter.observe(ids, logits)


def check(
    engine: Engine, last: int, draft: Draft, choose: Callable[[np.ndarray], int | None]
) -> tuple[list[int], int, np.ndarray]:
    """Run the uncommitted token `last` and the guesses after it, and commit what holds: (chosen, accepted, logits).

    `choose` picks the next token from logits [vocab] as it would without speculation, and is called along the one
    path it picks: so whatever it does (greedy, penalties, constraints) the tokens are those that decoding one by one
    gives, provided `verify` computes the logits that `decode` would. It returns None to stop after a token that was
    its own. `chosen` ends with the first token that was not guessed, which is not committed yet; `accepted` of the
    guesses came true. `logits` [1 + guesses, vocab]."""
    children: dict[tuple[int, int], int] = {}  # (parent's row, token) -> row
    for i, (guess, parent) in enumerate(zip(draft.tokens, draft.parents, strict=True)):
        children.setdefault((parent + 1, guess), i + 1)
    logits = engine.verify([last, *draft.tokens], [NO_PARENT, *(parent + 1 for parent in draft.parents)])
    path, chosen = [0], list[int]()
    while (token := choose(logits[path[-1]])) is not None:
        chosen.append(token)
        if (path[-1], token) not in children:
            break
        path.append(children[path[-1], token])
    engine.commit(path)
    return chosen, len(path) - 1, logits
