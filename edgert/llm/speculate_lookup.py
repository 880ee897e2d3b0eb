"""Prompt lookup: what followed the same few tokens last time (Saxena 2023, "Prompt Lookup Decoding")."""

from collections.abc import Sequence

import numpy as np

from edgert.llm.speculate import Draft
from edgert.llm.speculate_pace import Confidence

# What held on summaries of English news, by 1, 2, ... tokens that agree: where they always went on alike the last two
# times, or once; and where they did not
STEADY, CHANGED = (0.45, 0.55, 0.8, 0.8, 0.85), (0.15, 0.45, 0.65, 0.6, 0.5)
WEIGHT = 6  # guesses that the above count as


class PromptLookup:
    """Guesses a chain: the tokens after the latest earlier place where the context's last tokens stood.

    `longest` to `shortest` tokens are looked for, the longer first; `most` bounds the chain. The index of all such
    n-grams grows with the context and is begun anew when another context comes. The longer what was found, the likelier
    its continuation, unless another one followed the time before."""

    def __init__(self, longest: int = len(STEADY), shortest: int = 1, most: int = 10) -> None:
        self.longest, self.shortest, self.most = longest, shortest, most
        self._held: Sequence[int] = ()
        self._size = 0  # tokens of it in the index
        self._confidence = Confidence((*STEADY, *CHANGED), WEIGHT)
        # n-gram -> where the token after its latest occurrence stands; inverted where it is not the one of before
        self._after: dict[tuple[int, ...], int] = {}

    def draft(self, context: Sequence[int], most: int) -> Draft:
        """A chain of at most `most` guesses, empty when the end of `context` is new."""
        self._follow(context)
        self._confidence.settle(context)
        for length in range(min(self.longest, len(context) - 1), self.shortest - 1, -1):
            at = self._after.get(tuple(context[-length:]))
            if at is not None:
                first, at = (len(STEADY), ~at) if at < 0 else (0, at)
                tokens = [int(token) for token in context[at : at + min(most, self.most)]]
                kinds = [first + min(length + i, len(STEADY)) - 1 for i in range(len(tokens))]
                shares = self._confidence.propose(context, tokens, kinds)
                return Draft(tokens, list(range(-1, len(tokens) - 1)), shares)
        return Draft()

    def observe(self, ids: Sequence[int], logits: np.ndarray) -> None:
        """Nothing to learn from logits."""

    def _follow(self, context: Sequence[int]) -> None:
        """Index every n-gram that has a token after it."""
        size, after = self._size, self._after
        if context is not self._held:  # one that only grows need not be compared
            if list(context[:size]) != list(self._held[:size]):
                self._after = after = {}
                size = 0
            self._held = context
        for at in range(max(size, 1), len(context)):
            token = context[at]
            for length in range(self.shortest, min(self.longest, at) + 1):
                ngram = tuple(context[at - length : at])
                before = after.get(ngram, at)
                after[ngram] = at if context[~before if before < 0 else before] == token else ~at
        self._size = len(context)
