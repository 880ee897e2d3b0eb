"""Requests as OpenAI's clients send them: what is understood, what is refused, what may be left aside."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from edgert.serve.errors import invalid, unsupported

MOST_STOPS = 16  # OpenAI takes 4

Positive = Annotated[int, Meta(ge=1)]


class StreamOptions(Struct):
    """`stream_options`."""

    include_usage: bool = False


class SchemaFormat(Struct):
    """`response_format.json_schema`."""

    schema: dict[str, Any] | None = None
    name: str = ""


class ResponseFormat(Struct):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class Common(Struct, kw_only=True):
    """What both kinds of request have. None is OpenAI's default, wherever it is given."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | Annotated[list[str], Meta(max_length=MOST_STOPS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    max_tokens: Positive | None = None
    response_format: ResponseFormat | None = None
    # What other servers have too and OpenAI's has not
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=1000)] | None = None


class Part(Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None


class Message(Struct):
    """One message. Fields that are not named here are what clients send back of an answer."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None


class ChatRequest(Common, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Positive | None = None


class CompletionRequest(Common, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[Any]


IGNORED = {"user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "verbosity"}
IGNORED |= {"prompt_cache_key", "prompt_cache_retention"}
"""Fields that would not change the answer."""

REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "echo": (False,),
    "suffix": ("",),
}
"""Fields that are not done, with the values that ask for nothing."""

Request = TypeVar("Request", bound=Common)


def parse(body: bytes, kind: type[Request]) -> Request:
    """The request in `body` (JSON). Raises ApiError: not JSON, an unknown field, a wrong type or range."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid(f"the body is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise invalid("the body is not a JSON object")
    known = {field.name for field in msgspec.structs.fields(kind)}
    for name, value in found.items():
        if name in REFUSED:
            _refuse(name, value)
        elif name not in known | IGNORED:
            raise invalid(f"Unrecognized request argument supplied: {name[:100]}", name[:100], "unknown_parameter")
    try:
        return msgspec.convert({name: found[name] for name in known & found.keys()}, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        place = re.search(r"`\$\.?(.*?)`$", str(error))
        raise invalid(f"the request is not valid: {error}", place[1] if place and place[1] else None) from error


def _refuse(name: str, value: Any) -> None:
    """Compares types too: 0 alternatives of `logprobs` are asked for, False is not."""
    if value is None or any(value == nothing and _alike(value, nothing) for nothing in REFUSED[name]):
        return
    raise unsupported(f"this server does not do `{name}`; leave it out", name)


def _alike(value: Any, nothing: Any) -> bool:
    return isinstance(value, bool) == isinstance(nothing, bool)
