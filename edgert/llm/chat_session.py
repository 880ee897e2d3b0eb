"""A conversation that goes on from the cache: each turn runs only the tokens that the engine does not hold yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgert.errors import DoesNotFit
from edgert.llm.chat import ChatTemplate
from edgert.llm.chat_prompt import chat_ids
from edgert.llm.engine_api import Engine
from edgert.llm.generate import Event, Generation, Grammar, Options
from edgert.llm.speculate import Drafter
from edgert.llm.statistics import Statistics
from edgert.llm.tokenizer import Tokenizer


class ChatSession:
    """The messages so far and the tokens in the engine's cache.

    Each turn renders the whole conversation and keeps of the cache what its tokens begin with, so any template is
    right, also one that rewrites earlier turns. When the context is full the oldest exchanges are forgotten, the
    system message never; `forgotten` counts them."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        options: Options,
        system: str | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self.engine, self.tokenizer, self.template = engine, tokenizer, template
        self.options, self.drafter = options, drafter
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self.statistics = Statistics()
        """Of the last turn; `prompt_tokens` are those that had to be run."""
        self.finish: str | None = None
        self.reused = self.forgotten = 0
        self._first = len(self.messages)  # what is never forgotten
        self._held: list[int] = []  # the tokens in the cache

    def say(self, text: str, write: Callable[[str], None] | None = None, constraint: Grammar | None = None) -> str:
        """The answer to the user's `text`; its pieces also go to `write` as they come.

        Raises DoesNotFit when the message alone does not fit the context, and what generating raises; the message is
        then taken back."""
        self.messages.append({"role": "user", "content": text})
        try:
            answer = "".join(self._answer(self._fitting(), write, constraint))
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": answer})
        return answer

    def _fitting(self) -> list[int]:
        """The conversation's tokens, after forgetting what leaves no room for an answer."""
        room = max(1, min(self.options.max_tokens, self.engine.context // 4))
        while True:
            ids = chat_ids(self.tokenizer, self.template, self.messages)
            if len(ids) + room <= self.engine.context:
                return ids
            if len(self.messages) - self._first < 3:  # the new message is alone
                if len(ids) <= self.engine.context:
                    return ids
                raise DoesNotFit(f"the message needs {len(ids)} tokens, the context has {self.engine.context}")
            del self.messages[self._first : self._first + 2]
            self.forgotten += 1

    def _answer(self, ids: Sequence[int], write: Callable[[str], None] | None, constraint: Grammar | None) -> list[str]:
        self.reused = _common(self._held[: self.engine.position], ids)
        self.engine.reset(self.reused)
        self._held = list(ids[: self.reused])
        generation = Generation(
            self.engine, ids[self.reused :], self.tokenizer, self.options, constraint, self.drafter, self._held
        )
        self.statistics, self.finish = generation.statistics, None
        pieces: list[str] = []
        try:
            for event in generation:
                self._take(event, pieces, write)
        finally:  # also when it was interrupted: the cache holds the prompt and the tokens so far, or less
            self._held = [*ids, *generation.tokens][: self.engine.position]
        return pieces

    def _take(self, event: Event, pieces: list[str], write: Callable[[str], None] | None) -> None:
        self.finish = event.finish
        pieces.append(event.text)
        if write is not None and event.text:
            write(event.text)


def _common(held: Sequence[int], ids: Sequence[int]) -> int:
    """How many tokens both begin with, at most all but the last of `ids`: a pass needs one."""
    most = min(len(held), len(ids) - 1)
    return next((i for i in range(most) if held[i] != ids[i]), most)
