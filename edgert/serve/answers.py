"""Answers as OpenAI's clients read them."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec

from edgert.serve.jobs import Usage


def encoded(value: Any) -> bytes:
    """JSON, UTF-8."""
    return msgspec.json.encode(value)


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encoded(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Answer:
    """The shapes of one answer. `Chat` and `Completion` fill in what differs."""

    prefix = whole = part = ""

    def __init__(self, model: str) -> None:
        self._id = f"{self.prefix}-{secrets.token_hex(12)}"
        self._head = {"created": int(time.time()), "model": model}

    def complete(self, text: str, finish: str, usage: Usage) -> dict[str, Any]:
        """The answer in one piece."""
        choice = {"index": 0, **self._text(text), "logprobs": None, "finish_reason": finish}
        return {"id": self._id, "object": self.whole, **self._head, "choices": [choice], "usage": counts(usage)}

    def chunk(self, text: str, finish: str | None = None) -> dict[str, Any]:
        """A piece of a stream."""
        choice = {"index": 0, **self._delta(text), "logprobs": None, "finish_reason": finish}
        return {"id": self._id, "object": self.part, **self._head, "choices": [choice]}

    def first(self) -> list[dict[str, Any]]:
        """What a stream begins with."""
        return []

    def last(self, usage: Usage) -> dict[str, Any]:
        """The piece of a stream that holds nothing but the usage."""
        return {"id": self._id, "object": self.part, **self._head, "choices": [], "usage": counts(usage)}

    def _text(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def _delta(self, text: str) -> dict[str, Any]:
        raise NotImplementedError


class Chat(Answer):
    """Of POST /v1/chat/completions."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def _text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def first(self) -> list[dict[str, Any]]:
        """The role."""
        chunk = self.chunk("")
        chunk["choices"][0]["delta"] = {"role": "assistant", "content": ""}
        return [chunk]


class Completion(Answer):
    """Of POST /v1/completions."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def _text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    _delta = _text


def counts(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": {"cached_tokens": usage.kept},
    }
