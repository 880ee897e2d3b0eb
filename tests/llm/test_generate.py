"""Generation over a model in numpy: speculation changes nothing but the number of passes, and every way to end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.llm.generate import Event, Generation, Options, generate
from edgert.llm.sampling import SamplingOptions
from edgert.llm.speculate import BestOf, Drafter
from edgert.llm.speculate_lookup import PromptLookup
from edgert.llm.speculate_pace import Pace
from edgert.llm.speculate_recycling import TokenRecycling
from edgert.llm.tokenizer import Tokenizer
from tests.llm.fake_engine import FakeEngine
from tests.llm.made import byte_tokenizer

TEXT = byte_tokenizer()
DRAFTERS = {
    "none": lambda vocab: None,
    "lookup": lambda vocab: PromptLookup(),
    "recycling": TokenRecycling,
    "both": lambda vocab: BestOf(PromptLookup(), TokenRecycling(vocab)),
}


def _run(
    drafter: Drafter | None, seed: int = 0, context: int = 4096, **options: object
) -> tuple[Generation, list[Event]]:
    engine = FakeEngine(TEXT.vocab, seed, context)
    run = generate(engine, [5, 6, 7, 5, 6], TEXT, Options(**options), drafter=drafter)
    return run, list(run)


@given(st.integers(0, 10_000), st.sampled_from(["lookup", "recycling", "both"]), st.sampled_from([1.0, 1.3]))
@settings(max_examples=25, deadline=None)
def test_speculation_gives_the_same_tokens_in_no_more_passes(seed: int, kind: str, penalty: float) -> None:
    options = {"max_tokens": 80, "ignore_end": True, "sampling": SamplingOptions(repeat_penalty=penalty)}
    plain, events = _run(None, seed, **options)
    quick, quick_events = _run(DRAFTERS[kind](TEXT.vocab), seed, **options)
    assert quick.tokens == plain.tokens
    assert "".join(e.text for e in quick_events) == "".join(e.text for e in events)
    assert quick_events[-1].finish == events[-1].finish == "length"
    figures = quick.statistics
    assert figures.tokens == 80 and figures.passes <= plain.statistics.passes == 79
    assert figures.accepted <= figures.drafted
    # What is committed is the prompt and the tokens, but perhaps the last
    whole = [*quick.prompt, *quick.tokens]
    assert quick.engine.committed == whole[: quick.engine.position] and len(quick.pending) <= 1


@pytest.mark.parametrize("kind", ["lookup", "recycling", "both"])
def test_speculation_saves_passes_where_the_text_repeats(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "timed", lambda *_: None)  # a table's passes cost as much a token, a model's do not
    # 127 states and greedy choice: the text runs into a cycle soon
    run, _ = _run(DRAFTERS[kind](TEXT.vocab), max_tokens=400, ignore_end=True)
    figures = run.statistics
    assert figures.passes + figures.accepted in (399, 400)  # the last token may be a guess that came true
    assert figures.tokens_per_pass > 1.3
    assert 0 < figures.acceptance <= 1


def test_no_guesses_above_temperature_0() -> None:
    run, _ = _run(PromptLookup(), max_tokens=60, sampling=SamplingOptions(temperature=0.5, seed=1))
    assert run.statistics.drafted == 0


@pytest.mark.parametrize("kind", DRAFTERS)
def test_a_stop_string_ends_the_text_before_it(kind: str) -> None:
    run, events = _run(None, seed=3, max_tokens=60, ignore_end=True)
    whole = "".join(event.text for event in events)
    stop = whole[20:23]
    again, cut = _run(DRAFTERS[kind](TEXT.vocab), seed=3, max_tokens=60, ignore_end=True, stop=(stop,))
    assert "".join(event.text for event in cut) == whole[: whole.index(stop)]
    assert cut[-1].finish == "stop" and all(event.finish is None for event in cut[:-1])
    assert again.tokens == run.tokens[: len(again.tokens)]
    assert again.engine.committed == [*again.prompt, *again.tokens][: again.engine.position]


class Scripted(FakeEngine):
    """Says what it is told, token by token."""

    def __init__(self, script: list[int], vocab: int) -> None:
        super().__init__(vocab)
        self.script = script

    def _logits(self, path: list[int]) -> np.ndarray:
        row = np.zeros(self.vocab, np.float32)
        row[self.script[(len(path) - 3) % len(self.script)]] = 1
        return row


def _say(text: str, tokenizer: Tokenizer = TEXT, **options: object) -> list[Event]:
    script = [*tokenizer.encode(text), 2]
    return list(generate(Scripted(script, tokenizer.vocab), [5, 6, 7], tokenizer, Options(**options)))


def test_an_end_token_ends_and_is_not_text() -> None:
    events = _say("hé 🎉!")
    assert "".join(event.text for event in events) == "hé 🎉!"
    assert events[-1] == Event(2, "", "end")


def test_text_held_back_for_a_stop_comes_at_the_end() -> None:
    events = _say("the end", stop=("end of it",))
    assert "".join(event.text for event in events) == "the end" and events[-1].finish == "end"


def test_a_character_cut_by_the_length_is_marked() -> None:
    first = len(TEXT.encode("a🎉")) - 1
    events = _say("a🎉", max_tokens=first)
    assert "".join(event.text for event in events) == "a\ufffd" and events[-1].finish == "length"


@pytest.mark.parametrize("kind", DRAFTERS)
def test_a_full_cache_ends_the_text_like_without_guesses(kind: str) -> None:
    plain, _ = _run(None, context=40, ignore_end=True)
    run, events = _run(DRAFTERS[kind](TEXT.vocab), context=40, ignore_end=True)
    assert events[-1].finish == "context" and run.tokens == plain.tokens and len(run.tokens) == 40 - 5 + 1


def test_a_conversation_goes_on_where_it_was_left() -> None:
    engine = FakeEngine(TEXT.vocab)
    first = generate(engine, [5, 6, 7], TEXT, Options(max_tokens=10, ignore_end=True))
    list(first)
    second = generate(engine, [*first.pending, 8, 9], TEXT, Options(max_tokens=10, ignore_end=True))
    list(second)
    fresh = FakeEngine(TEXT.vocab)
    other = generate(fresh, [5, 6, 7, *first.tokens, 8, 9], TEXT, Options(max_tokens=10, ignore_end=True))
    list(other)
    assert other.tokens == second.tokens and fresh.committed == engine.committed


def test_leaving_early_keeps_the_engine_in_step() -> None:
    engine = FakeEngine(TEXT.vocab)
    run = generate(engine, [5, 6, 7, 5, 6], TEXT, Options(max_tokens=200, ignore_end=True), drafter=PromptLookup())
    for _ in run:
        if len(run.tokens) == 50:
            break
    assert engine.position <= 5 + 50
    assert engine.committed == [*run.prompt, *run.tokens][: engine.position]


def test_refused_before_any_work() -> None:
    engine = FakeEngine(300, context=8)
    with pytest.raises(DoesNotFit, match=r"needs 9 positions .* has 8"):
        generate(engine, range(9), TEXT)
    with pytest.raises(UsageError, match="no tokens"):
        generate(engine, [], TEXT)
    with pytest.raises(UsageError, match="token 300"):
        generate(engine, [300], TEXT)
    with pytest.raises(UsageError, match="max_tokens"):
        Options(max_tokens=0)
    assert engine.passes == 0


def test_results_that_are_no_numbers_are_an_error() -> None:
    engine = FakeEngine(TEXT.vocab)
    engine._table[:] = np.nan
    with pytest.raises(EdgertError, match="not finite"):
        list(generate(engine, [5], TEXT))
