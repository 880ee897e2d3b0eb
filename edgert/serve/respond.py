"""A job's pieces as an HTTP response, for as long as the client is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgert.serve.answers import DONE, Answer, encoded, event
from edgert.serve.errors import ApiError
from edgert.serve.jobs import Job, Piece

LINGER_SECONDS, LINGER_BYTES = 10.0, 256 << 20  # for what a client still sends when it has been refused


def error_response(error: ApiError) -> Response:
    """OpenAI's error object."""
    kind = LastResponse if error.headers.get("connection") == "close" else Response
    return kind(encoded(error.as_dict()), error.status, error.headers, "application/json")


class LastResponse(Response):
    """A response after which the connection closes, though the request's body may still be coming.

    Closing a socket with unread bytes resets the connection, and the client may lose the answer: so what it announced
    is read and thrown away first, within bounds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, read on, close."""
        announced = Headers(scope=scope).get("content-length", "")
        left = min(int(announced) if announced.isdecimal() else 0, LINGER_BYTES)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _send(send, bytes(self.body))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and (message := await receive())["type"] == "http.request":
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        await _send(send, b"", more=False)


class JobResponse(Response):
    """The answer to one request; sending it ends with the job, and a client that leaves ends both at once."""

    def __init__(self, job: Job, answer: Answer, stream: bool, usage: bool) -> None:
        """`usage`: whether a stream ends with the usage."""
        super().__init__()
        self._job, self._answer, self._stream, self._usage = job, answer, stream, usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._job:
            work = self._streamed(send) if self._stream else self._whole(scope, receive, send)
            await _while_connected(receive, work)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        texts = []
        try:
            async for piece in self._job.pieces():
                texts.append(piece.text)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        assert piece.finish is not None and piece.usage is not None
        body = encoded(self._answer.complete("".join(texts), piece.finish, piece.usage))
        await Response(body, media_type="application/json")(scope, receive, send)

    async def _streamed(self, send: Send) -> None:
        """Server-sent events. The head waits for the first piece, so that an error before it has its own status."""
        begun = False
        async with contextlib.aclosing(self._job.pieces()) as pieces:  # type: ignore[type-var]
            try:
                async for piece in pieces:
                    if not begun:
                        await _begin(send)
                        begun = True
                        for chunk in self._answer.first():
                            await _send(send, self._event(chunk))
                    await _send(send, self._events(piece))
                    await asyncio.sleep(0)  # neither call waits while pieces are ready: others have their turn here
            except ApiError as error:
                if not begun:
                    await _begin(send, error)
                    await _send(send, encoded(error.as_dict()), more=False)
                    return
                await _send(send, event(error.as_dict()))
        await _send(send, DONE, more=False)

    def _events(self, piece: Piece) -> bytes:
        found = self._event(self._answer.chunk(piece.text)) if piece.text else b""
        if piece.finish:
            found += self._event(self._answer.chunk("", piece.finish))
            if self._usage and piece.usage is not None:
                found += event(self._answer.last(piece.usage))
        return found

    def _event(self, chunk: dict) -> bytes:
        return event({**chunk, "usage": None} if self._usage else chunk)


async def _begin(send: Send, error: ApiError | None = None) -> None:
    """The head: of a stream, or of an error in its place."""
    kind = "application/json" if error else "text/event-stream; charset=utf-8"
    headers = {"content-type": kind, "cache-control": "no-cache", **(error.headers if error else {})}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status if error else 200, "headers": raw})


async def _send(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _while_connected(receive: Receive, work: Awaitable[None]) -> None:
    """Do `work`, but give it up when the client leaves."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
