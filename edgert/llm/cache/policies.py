"""What happens when the rows of a cache are used up: policies, which decide, and touch no cache themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgert.errors import DoesNotFit, UsageError


class Policy(Protocol):
    """Whether room is made for more tokens, and which rows are given up for it."""

    @property
    def endless(self) -> bool:
        """Whether there is always room for more."""

    def rows(self, context: int) -> int:
        """The rows that it uses of a cache that may have `context`. Raises UsageError where those are too few."""

    def at_once(self, rows: int) -> int:
        """The most tokens that may come in one pass."""

    def forget(self, held: int, more: int, rows: int) -> range:
        """The rows to forget, of `held` that are used among `rows`, so that `more` (at most `at_once`) fit; those
        behind move down. Empty if they fit as it is. Raises DoesNotFit where it makes no room."""


@dataclass(frozen=True)
class Keep:
    """Nothing is forgotten: a text ends where the context does."""

    endless = False

    def rows(self, context: int) -> int:
        """See Policy."""
        return context

    def at_once(self, rows: int) -> int:
        """See Policy."""
        return rows

    def forget(self, held: int, more: int, rows: int) -> range:
        """See Policy."""
        if held + more > rows:
            raise DoesNotFit(f"{held + more} tokens do not fit a context of {rows}")
        return range(0)


@dataclass(frozen=True)
class SinksAndWindow:
    """The first `sinks` tokens and the latest, at most `window` (StreamingLLM, Xiao et al. 2023, arXiv:2309.17453).

    Positions count within the cache, as in the paper. The paper forgets one token at a time, and so turns every key at
    every step; here a quarter of the window goes at once, so that a token sees three quarters of the window or more.
    With `sinks` 0 it is the paper's plain window, for comparison.
    """

    sinks: int = 4
    window: int = 1020
    endless = True

    def __post_init__(self) -> None:
        if self.sinks < 0 or self.window < 1:
            raise UsageError(f"{self.sinks} sinks and a window of {self.window}: give 0 or more and 1 or more")

    def rows(self, context: int) -> int:
        """See Policy."""
        need = self.sinks + self.window
        if need > context:
            raise UsageError(
                f"{self.sinks} sinks and a window of {self.window} need a context of {need} tokens, there are {context}"
            )
        return need

    def at_once(self, rows: int) -> int:
        """See Policy. Half the window, so that the tokens of one pass still see others."""
        return max(1, self.window // 2)

    def forget(self, held: int, more: int, rows: int) -> range:
        """See Policy."""
        lacking = held + more - rows
        if lacking <= 0:
            return range(0)
        return range(self.sinks, self.sinks + max(lacking, self.window // 4))
