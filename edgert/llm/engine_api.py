"""What text generation asks of the thing that runs the model, and nothing more."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

NO_PARENT = -1  # in `parents`: follows what is committed


class Engine(Protocol):
    """A decoder with a cache. Positions 0..`position`-1 hold committed tokens; every call works on what follows them.
    `position` may fall in a call that appends, by as much as `forgotten` grows.

    Logits are float32 over the vocabulary; they may be a view of the engine's memory that the next call overwrites,
    so whoever keeps or changes them copies first. Ids are checked by the caller. A call that would pass `context`
    raises DoesNotFit and changes nothing.

    An engine may tell, in place of the logits [vocab] of a token, the id of the greatest, the lowest of equals, or -1
    where they are not numbers: then `prefill` and `decode` give an int64 and `verify` int64 [n]."""

    @property
    def vocab(self) -> int:
        """Number of token ids, the width of the logits."""

    @property
    def context(self) -> int:
        """The most tokens that the cache can hold."""

    @property
    def position(self) -> int:
        """Tokens in the cache: those committed so far, without the forgotten."""

    @property
    def forgotten(self) -> int:
        """Tokens of the text that were given up to make room for others; those kept have moved to lower positions."""

    @property
    def room(self) -> int | None:
        """How many more tokens fit; None: as many as come, since old ones make room."""

    @property
    def place(self) -> int:
        """How many tokens fit before the cache forgets old ones or keeps them in fewer bits. In one pass with more of
        them, a token may see less than it would by itself."""

    @property
    def rewinds(self) -> bool:
        """Whether `reset` leaves what a text of that length leaves, to the bit."""

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Append and commit `ids` (at least one): logits [vocab] after the last. Cuts them into chunks itself."""

    def decode(self, token: int) -> np.ndarray:
        """Append and commit one token: logits [vocab] after it."""

    def verify(self, ids: Sequence[int], parents: Sequence[int] | None = None) -> np.ndarray:
        """Run several tokens at once without committing any: logits [n, vocab], row i after ids[i] and its ancestors.

        `parents[i] < i` is the index in `ids` of the token before ids[i], or NO_PARENT; None means a chain. The
        position of a token is `position` plus its depth, and it attends to what is committed and to its ancestors."""

    def commit(self, kept: Sequence[int]) -> None:
        """Commit tokens of the last `verify`: indices of a path from a root down, in order; the others are forgotten.

        `position` grows by len(kept), which may be 0."""

    def reset(self, position: int = 0) -> None:
        """Forget what follows the first `position` tokens."""
