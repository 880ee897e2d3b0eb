"""A conversation as token ids, in which nobody can write control tokens but the template."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgert.llm.chat import ChatTemplate
from edgert.llm.tokenizer import Tokenizer


def chat_ids(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = True,
    **values: Any,
) -> list[int]:
    """The ids of `messages` as `template` renders them, beginning with the beginning-of-text id if the model wants one.

    A control token in the rendered text (`<|im_start|>`) becomes its id only where the template wrote it. Where a
    message holds the text of one, a mark takes its place while the template runs; afterwards it is tokenized as the
    ordinary characters that it is. Without this, text pasted into a message could end the user's turn and begin
    another's. Raises what ChatTemplate.render raises."""
    marks = _Marks(tokenizer)
    safe = {name: marks.hide(value) for name, value in values.items()}
    text = template.render(marks.hide(list(messages)), add_generation_prompt, **safe)
    ids: list[int] = []
    for part, is_mark in marks.parts(text):
        ids += tokenizer.encode(part, special=not is_mark)
    if tokenizer.config["add_bos"] and tokenizer.bos is not None and ids[:1] != [tokenizer.bos]:
        ids.insert(0, tokenizer.bos)
    return ids


class _Marks:
    """Control tokens' texts, taken out of strings and put back. A mark cannot be guessed, so not written either."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._name = os.urandom(8).hex()
        self._hidden: list[str] = []

    def hide(self, value: Any) -> Any:
        """`value` (nested lists and dicts of strings and others) with marks for the control tokens' texts."""
        if isinstance(value, str):
            for start, end in reversed(self._tokenizer.control_spans(value)):
                self._hidden.append(value[start:end])
                value = f"{value[:start]}\ue000{self._name}:{len(self._hidden) - 1}\ue001{value[end:]}"
            return value
        if isinstance(value, Mapping):
            return {key: self.hide(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def parts(self, text: str) -> list[tuple[str, bool]]:
        """The rendered text in order, cut at the marks: (text, whether it was a mark)."""
        pieces = re.split(f"\ue000{self._name}:([0-9]+)\ue001", text)
        return [(self._hidden[int(p)] if i % 2 else p, bool(i % 2)) for i, p in enumerate(pieces) if p]
