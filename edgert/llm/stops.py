"""Ending a stream of text where a stop string begins, wherever the pieces of the stream are cut."""

from collections.abc import Sequence

from edgert.errors import UsageError


class StopStrings:
    """Holds back text that may be the beginning of a stop string, and lets it go once it is not.

    The stop that is complete first counts, so the result does not depend on how the text comes in pieces; of those
    complete at once, the longest. Raises UsageError for an empty stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str):
            stops = (stops,)
        if not all(stops):
            raise UsageError("a stop string is empty: it would end every text at once")
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that is now certain to come before any stop. After a stop (`stopped`) it is always ""."""
        if self.stopped or not self._stops:
            return "" if self.stopped else text
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)[1]]
        keep = self._unfinished(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, when the text ended without a stop."""
        held, self._held = self._held, ""
        return "" if self.stopped else held

    def _unfinished(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string without completing it."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
