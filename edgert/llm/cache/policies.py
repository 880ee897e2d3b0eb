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

    @property
    def chooses(self) -> int:
        """Of what is forgotten only the number is said: it goes by attention, but for so many of the latest rows, and
        as many of the first as the range begins with. 0: those of the range go."""

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

    endless, chooses = False, 0

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
    endless, chooses = True, 0

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


@dataclass(frozen=True)
class HeavyHitters:
    """The rows that the latest tokens attend to, and these, at most `window`.

    SnapKV (Li et al. 2024, arXiv:2404.14469) chooses once, at the prompt's end; here a quarter of the window goes
    whenever it is full, so that a long prompt needs no more memory. Positions go on, up to what the model was compiled
    for.
    """

    window: int
    sinks: int = 4
    endless, chooses = False, 32

    def __post_init__(self) -> None:
        least = 4 * self.chooses
        if self.window < least + self.sinks or self.sinks < 0:
            raise UsageError(f"a window of {self.window} and {self.sinks} sinks: give at least {least + self.sinks}")

    def rows(self, context: int) -> int:
        """See Policy."""
        if self.window > context:
            raise UsageError(f"a window of {self.window} needs a context of as many tokens, there are {context}")
        return self.window

    def at_once(self, rows: int) -> int:
        """See Policy."""
        return self.window // 4

    def forget(self, held: int, more: int, rows: int) -> range:
        """See Policy. Whole rounds of queries, so that those that are kept stay the latest."""
        lacking = held + more - rows
        if lacking <= 0:
            return range(0)
        count = -(-max(lacking, self.window // 4) // self.chooses) * self.chooses
        return range(self.sinks, self.sinks + min(count, held - self.sinks - self.chooses))
