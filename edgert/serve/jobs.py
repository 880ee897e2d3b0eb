"""One request on its way: from its place in the queue to the last piece of its text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from edgert.serve.errors import ApiError
from edgert.serve.prompts import Prepared


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    prompt: int
    kept: int
    """Of the prompt, those that the cache held already."""
    generated: int


@dataclass(frozen=True)
class Piece:
    """Text that is certain; the last piece says why the text ended and what it took."""

    text: str
    finish: str | None = None
    usage: Usage | None = None


class Job:
    """A place in the queue. A context manager: leaving it gives the place back and stops the work, if any goes on.

    Made and used by the event loop's thread; the worker's thread reads `prepared` and `cancelled` and calls `tell`."""

    def __init__(self, start: Callable[[Job], None], leave: Callable[[Job], None]) -> None:
        """`start` hands the job to the worker, `leave` gives up one that was never started."""
        self._start, self._leave = start, leave
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | ApiError] = asyncio.Queue()  # no longer than the context
        self.prepared: Prepared | None = None
        self.cancelled = False

    def start(self, prepared: Prepared) -> None:
        """Let the worker run it when its turn comes."""
        self.prepared = prepared
        self._start(self)

    async def pieces(self) -> AsyncIterator[Piece]:
        """The text as it comes. Raises ApiError when the work fails."""
        while True:
            piece = await self._pieces.get()
            if isinstance(piece, ApiError):
                raise piece
            yield piece
            if piece.finish:
                return

    def tell(self, piece: Piece | ApiError) -> None:
        """Pass a piece on, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            self.cancelled = True

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.cancelled = True
        if self.prepared is None:
            self._leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
