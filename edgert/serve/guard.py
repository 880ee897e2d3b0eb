"""Who may ask: the holder of the key, or whoever is on this machine. And how much of a body is read."""

from __future__ import annotations

import asyncio
import secrets

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from edgert.serve.errors import ApiError, invalid
from edgert.serve.respond import error_response
from edgert.units import format_bytes

BODY_SECONDS = 60.0  # for the whole body: a client that sends it slower holds memory for nothing
LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}


class Guard:
    """ASGI middleware: the API key, or without one the name that the server was asked by.

    A page in the user's browser can reach loopback addresses; under a name of its own that it lets point there (DNS
    rebinding) it could even read the answers. The Host header tells."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        """`key`: None where any program on this machine may ask."""
        self._app, self._key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] == "http" and (error := self._refusal(Headers(scope=scope), scope["path"])):
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> ApiError | None:
        if self._key is None:
            host = headers.get("host", "")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            return None if name.lower() in LOCAL_NAMES else ApiError(403, "this server answers local names only")
        if path == "/health":
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if not key.strip():
            return ApiError(401, "You didn't provide an API key (header `Authorization: Bearer KEY`).")
        right = secrets.compare_digest(key.strip().encode(), self._key.encode())
        if scheme.lower() == "bearer" and right:
            return None
        return ApiError(401, "Incorrect API key provided.", code="invalid_api_key")


async def read_body(request: Request, most: int) -> bytes:
    """The request's body. Raises ApiError for another type than JSON (which a page elsewhere could send unasked), for
    more than `most` bytes, as soon as that shows, and for a body that does not come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the body must be JSON: send the header `Content-Type: application/json`")
    too_large = ApiError(
        413, f"the body is larger than {format_bytes(most)}", code="request_too_large", headers={"connection": "close"}
    )
    if int(request.headers.get("content-length", "0")) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, "the body did not come in time", headers={"connection": "close"}) from None
    if not body:
        raise invalid("the request has no body")
    return bytes(body)
