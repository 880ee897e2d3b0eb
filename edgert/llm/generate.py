"""The loop: a prompt goes in, tokens and their text come out one by one."""

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgert.errors import DoesNotFit, UsageError
from edgert.llm.engine_api import Engine
from edgert.llm.sampling import Sampler, SamplingOptions, told
from edgert.llm.speculate import Draft, Drafter, check
from edgert.llm.speculate_pace import Pace
from edgert.llm.statistics import Statistics
from edgert.llm.stops import StopStrings


class Stream(Protocol):
    """Tokens in, complete text out (edgert.llm.tokenizer.TextStream)."""

    def push(self, token: int) -> str:
        """The text that this token completes."""

    def finish(self) -> str:
        """What is left at the end."""


class Text(Protocol):
    """What is needed of a tokenizer (edgert.llm.tokenizer.Tokenizer)."""

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a text."""

    def stream(self) -> Stream:
        """A decoder for one text."""


class Grammar(Protocol):
    """What is needed of a constraint (edgert.llm.constrain.Constraint)."""

    @property
    def finished(self) -> bool:
        """Whether nothing more may follow."""

    def mask(self, logits: np.ndarray) -> np.ndarray:
        """Logits with -inf for what may not come next."""

    def advance(self, token: int) -> None:
        """Take a token."""


@dataclass(frozen=True)
class Options:
    """How a generation goes and when it ends."""

    max_tokens: int = 256
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    stop: tuple[str, ...] = ()  # strings that end the text; they are not part of it
    ignore_end: bool = False  # go on after an end token, for measuring
    # guesses checked in one pass, if a drafter is given: up to 8 rows kernels give the bits that they give for one, so
    # that guessing changes no text; beyond that sums come in another order
    most_drafted: int = 7

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens {self.max_tokens} is out of range: at least 1")
        if self.most_drafted < 0:
            raise UsageError(f"most_drafted {self.most_drafted} is out of range")


@dataclass(frozen=True)
class Event:
    """One token and the text that became certain with it, "" while it may begin a stop or ends inside a character.

    `finish` is None but on the last event: "end" (an end token), "stop" (a stop string), "constraint" (it is
    fulfilled), "length" (max_tokens), "context" (the cache is full and forgets nothing)."""

    token: int
    text: str
    finish: str | None = None


class Generation:
    """One text in the making: iterate it for events. `statistics` and `tokens` grow with it.

    When it ends or is left, the engine has committed the prompt and every token but perhaps the last one (which no
    pass has needed yet), so that a conversation can go on: `pending` holds the tokens that it still lacks."""

    def __init__(
        self,
        engine: Engine,
        ids: Sequence[int],
        text: Text,
        options: Options | None = None,
        constraint: Grammar | None = None,
        drafter: Drafter | None = None,
        history: Sequence[int] = (),
    ) -> None:
        self.engine, self.text, self.options = engine, text, options or Options()
        self.constraint = constraint
        # Above temperature 0 a guess would have to match a random draw: not worth a pass
        self.drafter = drafter if self.options.sampling.temperature == 0 else None
        self.prompt = [int(i) for i in ids]
        self.tokens: list[int] = []
        self.statistics = Statistics(prompt_tokens=len(self.prompt))
        self._context = [*history, *self.prompt]  # for penalties and guesses; with `tokens`
        self._chosen = 0  # tokens; some may not be given out yet
        self._start = engine.position + engine.forgotten  # in the text
        self._room = engine.room
        self._sampler = Sampler(self.options.sampling)
        self._pace = Pace()
        self._finish: str | None = None
        self._refuse()

    def _refuse(self) -> None:
        if not self.prompt:
            raise UsageError("the prompt has no tokens")
        bad = [i for i in self.prompt if not 0 <= i < self.engine.vocab]
        if bad:
            raise UsageError(f"token {bad[0]} is not in the model's vocabulary of {self.engine.vocab}")
        if self._room is not None and len(self.prompt) > self._room:
            need, have = (self.engine.position + more for more in (len(self.prompt), self._room))
            raise DoesNotFit(f"the prompt needs {need} positions with what is before it, the context has {have}")

    @property
    def pending(self) -> list[int]:
        """Tokens that were chosen but are not in the engine's cache."""
        return (self.prompt + self.tokens)[self._committed() - self._start :]

    def _committed(self) -> int:
        """Tokens of the text that have been in the engine's cache."""
        return self.engine.position + self.engine.forgotten

    def __iter__(self) -> Iterator[Event]:
        with contextlib.closing(self._tokens()) as tokens:
            yield from self._events(tokens)

    def _events(self, tokens: Iterator[int]) -> Iterator[Event]:
        stream, stops = self.text.stream(), StopStrings(self.options.stop)
        for token in tokens:
            end = self._finish == "end"
            # An end token is no part of the text, whatever it would write
            piece = stops.push("" if end else stream.push(token))
            if not stops.stopped and self._finish:
                piece += stops.push(stream.finish())
                piece += stops.finish()
            if stops.stopped:
                self._finish = "stop"
            yield Event(token, piece, self._finish)
            if self._finish:
                return

    def _choose_on(self, logits: np.ndarray) -> int | None:
        """The next token, or None when the text has ended."""
        return None if self._finish else self._choose(logits)

    def _choose(self, logits: np.ndarray) -> int:
        """The next token, taken into the context, with `_finish` if it ends the text."""
        if self.constraint is not None:
            logits = self.constraint.mask(logits)
        token = self._sampler.sample(logits, self._context) if np.ndim(logits) else told(int(logits))
        self._context.append(token)
        self._chosen += 1
        if self.constraint is not None:
            self.constraint.advance(token)
        if token in self.text.end_ids and not self.options.ignore_end:
            self._finish = "end"
        elif self.constraint is not None and self.constraint.finished:
            self._finish = "constraint"
        elif self._chosen >= self.options.max_tokens:
            self._finish = "length"
        elif self._room is not None and len(self.prompt) + self._chosen > self._room:
            self._finish = "context"  # there is no place to put it, so nothing can follow
        return token

    def _tokens(self) -> Generator[int, None, None]:
        """The tokens, as passes of the model give them. `_finish` is set with the last of all."""
        figures, begin = self.statistics, time.perf_counter()
        logits = self.engine.prefill(self.prompt)
        figures.prefill_seconds = time.perf_counter() - begin
        if self.drafter is not None:
            self.drafter.observe(self.prompt[-1:], logits[None])
        chosen = [self._choose(logits)]
        figures.first_token_seconds = time.perf_counter() - begin
        try:
            while True:
                finish, self._finish = self._finish, None
                for i, token in enumerate(chosen):
                    self.tokens.append(token)
                    figures.tokens += 1
                    self._finish = finish if i == len(chosen) - 1 else None
                    yield token
                    if self._finish:  # by the model's end, or by the reader: a stop string
                        return
                begin = time.perf_counter()
                chosen = self._pass(self.tokens[-1])
                figures.decode_seconds += time.perf_counter() - begin
        finally:
            given = self._start + len(self.prompt) + len(self.tokens)
            if self._committed() > given:  # guesses that came true after a stop string
                self.engine.reset(given - self.engine.forgotten)

    def _pass(self, last: int) -> list[int]:
        """One pass of the model over the last token and the guesses after it: the tokens it gives."""
        figures = self.statistics
        figures.passes += 1
        draft, begin = self._draft(), time.perf_counter()
        if not draft.tokens:
            logits = self.engine.decode(last)
            self._pace.timed(1, time.perf_counter() - begin)
            if self.drafter is not None:
                self.drafter.observe([last], logits[None])
            return [self._choose(logits)]
        chosen, accepted, rows = check(self.engine, last, draft, self._choose_on)
        self._pace.timed(1 + len(draft.tokens), time.perf_counter() - begin)
        figures.drafted += len(draft.tokens)
        figures.accepted += accepted
        assert self.drafter is not None
        self.drafter.observe([last, *draft.tokens], rows)
        return chosen

    def _draft(self) -> Draft:
        """Guesses, no more than the cache has place for."""
        if self.drafter is None:
            return Draft()
        # also where old tokens make room: guesses would make them go earlier, and so change the text
        place = self.engine.place - 1
        if place < 1 or self._chosen + 1 >= self.options.max_tokens:
            return Draft()
        draft = self.drafter.draft(self._context, min(place, self.options.most_drafted))
        return draft.head(self._pace.length(draft.shares)) if draft.shares else draft


def generate(
    engine: Engine,
    ids: Sequence[int],
    text: Text,
    options: Options | None = None,
    constraint: Grammar | None = None,
    drafter: Drafter | None = None,
    history: Sequence[int] = (),
) -> Generation:
    """Generate from `ids`, which follow what the engine has committed (`history`, for penalties and guesses).

    Returns an iterator of Event with `.statistics`. Raises at once: UsageError for an empty prompt or an id outside
    the vocabulary, DoesNotFit for a prompt longer than the context; while it runs: EdgertError from the engine, or
    when no token may follow."""
    return Generation(engine, ids, text, options, constraint, drafter, history)
