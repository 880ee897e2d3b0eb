"""A request to what the model gets: token ids, how to choose and when to end, what the text must follow."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgert.errors import EdgertError
from edgert.llm.chat import ChatTemplate
from edgert.llm.chat_prompt import chat_ids
from edgert.llm.constrain import Constraint
from edgert.llm.generate import Options
from edgert.llm.sampling import SamplingOptions
from edgert.llm.stops import StopStrings
from edgert.llm.tokenizer import Tokenizer
from edgert.serve.errors import invalid, unsupported
from edgert.serve.requests import ChatRequest, Common, CompletionRequest, Message, ResponseFormat

COMPLETION_TOKENS = 16  # OpenAI's default of `max_tokens` for completions; a chat's answer may fill the context
# OpenAI's defaults, and llama.cpp's for what OpenAI's protocol has not
DEFAULTS: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.0}


@dataclass(frozen=True)
class Prepared:
    """A request, ready to run."""

    ids: list[int]
    options: Options
    constraint: Constraint | None
    exact: bool
    """Whether the same request must give the same text, whatever the cache holds: with a seed, or temperature 0."""


class Prompts:
    """Prepares requests for one model. Its methods may run in several threads at once.

    They raise ApiError for what the client did wrong: too long a prompt, a refused schema, messages that the chat
    template does not take."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, context: int, vocab: int) -> None:
        """`template`: None where the model has none; `context`: the most tokens; `vocab`: ids that the model knows."""
        self._tokenizer, self._template = tokenizer, template
        self._context, self._vocab = context, vocab
        self._building = threading.Lock()  # the first constraint builds a large table: once is enough

    def chat(self, request: ChatRequest) -> Prepared:
        """A conversation, through the model's template."""
        if self._template is None:
            raise invalid("this model has no chat template: use /v1/completions", "messages", "unsupported_model")
        messages = [_message(message, f"messages[{i}]") for i, message in enumerate(request.messages)]
        try:
            ids = chat_ids(self._tokenizer, self._template, messages)
        except EdgertError as error:
            raise invalid(str(error), "messages") from error
        return self._prepared(request, ids, "messages", request.max_completion_tokens or request.max_tokens)

    def completion(self, request: CompletionRequest) -> Prepared:
        """A prompt as it stands: the whole text, control tokens too, or token ids."""
        prompt = request.prompt
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            (prompt,) = prompt
        if isinstance(prompt, str):
            try:
                ids = self._tokenizer.encode(prompt, special=True, bos=True)
            except EdgertError as error:
                raise invalid(str(error), "prompt") from error
        else:
            ids = self._ids(prompt)
        if not ids:
            raise invalid("the prompt has no tokens", "prompt")
        return self._prepared(request, ids, "prompt", request.max_tokens or COMPLETION_TOKENS)

    def _ids(self, prompt: Sequence[Any]) -> list[int]:
        if any(isinstance(item, str | list) for item in prompt):
            raise unsupported("this server takes one prompt in a request", "prompt")
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in prompt):
            raise invalid("the prompt is neither text nor a list of token ids", "prompt")
        if bad := [item for item in prompt if not 0 <= item < self._vocab]:
            raise invalid(f"token {bad[0]} is not in the vocabulary of {self._vocab}", "prompt")
        return list(prompt)

    def _prepared(self, request: Common, ids: list[int], param: str, most: int | None) -> Prepared:
        if len(ids) > self._context:
            raise invalid(
                f"This model's maximum context length is {self._context} tokens. However, your {param} resulted in "
                f"{len(ids)} tokens. Please reduce the length of the {param}.",
                param,
                "context_length_exceeded",
            )
        stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
        sampling = _sampling(request)
        try:
            StopStrings(stop)
        except EdgertError as error:
            raise invalid(str(error), "stop") from error
        # One more than there is room for: the last token is given out, but needs no place
        left = self._context - len(ids) + 1
        options = Options(min(most or left, left), sampling, stop)
        exact = sampling.seed is not None or sampling.temperature == 0
        return Prepared(ids, options, self._constraint(request.response_format), exact)

    def _constraint(self, form: ResponseFormat | None) -> Constraint | None:
        if form is None or form.type == "text":
            return None
        schema: Mapping[str, Any] | None = {"type": "object"}
        if form.type == "json_schema":
            schema = form.json_schema.schema if form.json_schema else None
            if schema is None:
                raise invalid(
                    "the schema is missing", "response_format.json_schema.schema", "missing_required_parameter"
                )
        try:
            with self._building:
                return Constraint(self._tokenizer, json_schema=schema)
        except EdgertError as error:
            raise invalid(str(error), "response_format") from error


def _sampling(request: Common) -> SamplingOptions:
    given = {name: getattr(request, name) for name in DEFAULTS}
    values = {name: DEFAULTS[name] if value is None else value for name, value in given.items()}
    values["top_p"] = max(values["top_p"], sys.float_info.min)  # 0 asks for the best token alone, as OpenAI has it
    seed = None if request.seed is None else request.seed % 2**64  # the generator takes no negative ones
    return SamplingOptions(seed=seed, **values)


def _message(message: Message, where: str) -> dict[str, Any]:
    """What a chat template sees of a message."""
    if message.tool_calls or message.role in ("tool", "function"):
        raise unsupported("this server does not do tools", where)
    role = "system" if message.role == "developer" else message.role
    shown = {"role": role, "content": _content(message, where)}
    return shown | ({"name": message.name} if message.name else {})


def _content(message: Message, where: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        if message.role != "assistant":
            raise invalid("the message has no content", f"{where}.content")
        return ""
    for part in message.content:
        if part.type not in ("text", "input_text"):
            raise unsupported(f"this model reads text only, not {part.type[:50]}", f"{where}.content")
    return "\n".join(part.text or "" for part in message.content)
