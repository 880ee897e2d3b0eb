"""What goes wrong with a request, in the shape that OpenAI's clients know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INVALID = "invalid_request_error"


class ApiError(Exception):
    """An HTTP status with OpenAI's error object (API reference, "Error codes")."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param`: the field of the request that is at fault; `headers`: more headers of the answer."""
        super().__init__(message)
        self.status, self.kind, self.param, self.code = status, kind, param, code
        self.headers = dict(headers or {})

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The client's mistake: status 400."""
    return ApiError(400, message, param=param, code=code)


def unsupported(message: str, param: str) -> ApiError:
    """A field that this server does not do: status 400."""
    return invalid(message, param, "unsupported_parameter")


def stopping() -> ApiError:
    """The server is going down: status 503."""
    return ApiError(503, "the server is shutting down", "server_error", code="shutting_down")


def internal() -> ApiError:
    """A mistake of the server's, which its own log tells more about: status 500."""
    return ApiError(500, "the server made a mistake; its log says more", "server_error", code="internal_error")
