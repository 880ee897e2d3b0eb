"""The HTTP side: routes to prepared jobs, jobs to responses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgert.serve.answers import Answer, Chat, Completion
from edgert.serve.errors import ApiError, internal
from edgert.serve.guard import Guard, read_body
from edgert.serve.prompts import Prepared, Prompts
from edgert.serve.requests import ChatRequest, CompletionRequest, parse
from edgert.serve.respond import JobResponse, error_response
from edgert.serve.worker import Worker


@dataclass
class Service:
    """What the routes work on."""

    name: str
    """The model's, as requests call it."""
    context: int
    prompts: Prompts
    worker: Worker
    most_body: int
    """Bytes."""
    created: int

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{name}."""
        self._check(request.path_params["name"])
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        """GET /health: alive, and how many requests there are."""
        return JSONResponse({"status": "ok", "requests": self.worker.admitted})

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        return await self._answer(request, ChatRequest, self.prompts.chat, Chat)

    async def completion(self, request: Request) -> Response:
        """POST /v1/completions."""
        return await self._answer(request, CompletionRequest, self.prompts.completion, Completion)

    async def _answer(
        self, request: Request, kind: type[Any], prepare: Callable[[Any], Prepared], answer: type[Answer]
    ) -> Response:
        asked = parse(await read_body(request, self.most_body), kind)
        if asked.model is not None:
            self._check(asked.model)
        job = self.worker.admit()  # before any work, so that work is bounded too
        try:
            job.start(await run_in_threadpool(prepare, asked))
        except BaseException:
            job.cancel()
            raise
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return JobResponse(job, answer(self.name), bool(asked.stream), usage)

    def _check(self, name: str) -> None:
        if name != self.name:
            message = f"The model `{name[:200]}` does not exist; this server has `{self.name}`."
            raise ApiError(404, message, param="model", code="model_not_found")

    def _model(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "edgert",
            "context_length": self.context,
        }


def make_app(name: str, context: int, prompts: Prompts, worker: Worker, most_body: int, key: str | None) -> Starlette:
    """The application. `key`: what requests must bring, None where it listens on this machine alone."""
    service = Service(name, context, prompts, worker, most_body, int(time.time()))
    routes = [
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.model),
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/completions", service.completion, methods=["POST"]),
        Route("/health", service.health),
    ]
    handlers: dict[Any, Any] = {
        ApiError: _api_error,
        HTTPException: _http_error,
        ClientDisconnect: _left,
        Exception: _internal_error,
    }
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(Guard, key=key)])


async def _api_error(request: Request, error: ApiError) -> Response:
    return error_response(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    """Starlette's own: no such path, no such method."""
    path = request.url.path[:200]
    return error_response(ApiError(error.status_code, f"Invalid URL or method ({request.method} {path})"))


async def _left(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _internal_error(request: Request, error: Exception) -> Response:
    return error_response(internal())
