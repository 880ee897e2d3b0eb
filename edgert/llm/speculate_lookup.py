"""Prompt lookup: what followed the same few tokens last time (Saxena 2023, "Prompt Lookup Decoding")."""

from collections.abc import Sequence

import numpy as np

from edgert.llm.speculate import Draft
from edgert.llm.speculate_pace import Confidence

PRIOR = (0.2, 0.4, 0.6, 0.7)


class PromptLookup:
    """Guesses a chain: the tokens after the latest earlier place where the context's last tokens stood.

    `longest` to `shortest` tokens are looked for, the longer first; `most` bounds the chain. The index of all such
    n-grams grows with the context and is begun anew when another context comes. The longer what was found, the likelier
    its continuation; PRIOR is what held on English summaries, by tokens that agree."""

    def __init__(self, longest: int = 6, shortest: int = 1, most: int = 10) -> None:
        self.longest, self.shortest, self.most = longest, shortest, most
        self._known: list[int] = []
        self._confidence = Confidence(PRIOR)
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> where the token after its latest occurrence stands

    def draft(self, context: Sequence[int], most: int) -> Draft:
        """A chain of at most `most` guesses, empty when the end of `context` is new."""
        self._follow(context)
        self._confidence.settle(context)
        for length in range(min(self.longest, len(context) - 1), self.shortest - 1, -1):
            at = self._after.get(tuple(context[-length:]))
            if at is not None:
                tokens = [int(token) for token in context[at : at + min(most, self.most)]]
                kinds = range(length - 1, length - 1 + len(tokens))
                shares = self._confidence.propose(context, tokens, kinds)
                return Draft(tokens, list(range(-1, len(tokens) - 1)), shares)
        return Draft()

    def observe(self, ids: Sequence[int], logits: np.ndarray) -> None:
        """Nothing to learn from logits."""

    def _follow(self, context: Sequence[int]) -> None:
        """Index every n-gram that has a token after it."""
        size = len(self._known)
        if len(context) < size or list(context[:size]) != self._known:
            self._known, self._after, size = [], {}, 0
        for at in range(max(size, 1), len(context)):
            for length in range(self.shortest, min(self.longest, at) + 1):
                self._after[tuple(context[at - length : at])] = at
        self._known.extend(context[size:])
