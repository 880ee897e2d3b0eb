"""What the server answers, as the openai client reads it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from edgert.llm.generate import Options, generate
from edgert.llm.sampling import SamplingOptions
from tests.serve.serving import CHUNK, HTTP, Serving, TableEngine, serving

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "in the hall and then"}]


def chat(made: Serving, **more: Any) -> Any:
    return made.client().chat.completions.create(**{"model": "made", "messages": MESSAGES, "max_tokens": 24} | more)


def streamed(made: Serving, **more: Any) -> tuple[str, str]:
    """The text of a streamed answer and why it ended."""
    chunks = list(chat(made, stream=True, **more))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), reasons[-1]


def test_models(made: Serving) -> None:
    assert [model.id for model in made.client().models.list()] == ["made"]
    assert made.client().models.retrieve("made").owned_by == "edgert"
    with pytest.raises(openai.NotFoundError):
        made.client().models.retrieve("other")


@pytest.mark.parametrize("penalty", [1.0, 5.0])
def test_a_chat_is_what_the_model_says(made: Serving, penalty: float) -> None:
    """Against the generation itself, on an engine of its own. The penalty is for tokens of the prompt too."""
    found = chat(made, temperature=0, extra_body={"repeat_penalty": penalty})
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nin the hall and then<|im_end|>\n"
    ids = made.tokenizer.encode(prompt + "<|im_start|>assistant\n", special=True)
    engine = TableEngine(made.tokenizer.vocab)
    events = list(generate(engine, ids, made.tokenizer, Options(24, SamplingOptions(repeat_penalty=penalty))))
    assert found.choices[0].message.content == "".join(event.text for event in events)
    assert found.choices[0].finish_reason == "length"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len(ids), 24)
    assert found.usage.total_tokens == len(ids) + 24


@pytest.mark.parametrize("how", [{"temperature": 0}, {"seed": 7}, {"seed": -1, "top_p": 0.5, "temperature": 2}])
def test_the_same_request_gives_the_same_text(made: Serving, how: dict[str, Any]) -> None:
    first = chat(made, **how).choices[0]
    chat(made)  # what another leaves in the cache changes nothing
    assert (first.message.content, first.finish_reason) == streamed(made, **how)
    assert chat(made, **how).choices[0] == first


def test_seeds_differ(made: Serving) -> None:
    assert len({chat(made, seed=seed).choices[0].message.content for seed in range(4)}) == 4


def test_stop_strings(made: Serving) -> None:
    whole = chat(made, seed=3).choices[0].message.content
    middle = len(whole) // 2
    stop = whole[middle : middle + 3]
    for given in (stop, ["not in it at all", stop]):
        found = chat(made, seed=3, stop=given).choices[0]
        assert (found.message.content, found.finish_reason) == (whole[: whole.index(stop)], "stop")
        assert streamed(made, seed=3, stop=given) == (found.message.content, "stop")


def test_usage_at_the_end_of_a_stream(made: Serving) -> None:
    *chunks, last = chat(made, stream=True, stream_options={"include_usage": True}, max_tokens=5)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == [] and last.usage.completion_tokens == 5


def test_completions(made: Serving) -> None:
    client = made.client()
    first = client.completions.create(model="made", prompt="the <|im_start|>", temperature=0)
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (3, 16)  # the control token is one
    ids = made.tokenizer.encode("the <|im_start|>", special=True)
    for prompt in (ids, ["the <|im_start|>"], [ids]):
        again = client.completions.create(model="made", prompt=prompt, temperature=0)
        assert again.choices[0].text == first.choices[0].text
    parts = client.completions.create(model="made", prompt=ids, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts) == first.choices[0].text


def test_a_model_that_ends_its_text() -> None:
    tokenizer_vocab = 270
    with serving(TableEngine(tokenizer_vocab, endless=False)) as made:
        reasons = {chat(made, max_tokens=None, seed=seed).choices[0].finish_reason for seed in range(5)}
        assert "stop" in reasons


def test_an_answer_may_fill_the_context(made: Serving) -> None:
    found = chat(made, max_tokens=None, temperature=0)
    assert found.choices[0].finish_reason == "length"
    assert found.usage.total_tokens == made.engine.context + 1  # the last token needs no place


def test_schemas(made: Serving) -> None:
    pytest.importorskip("llguidance")
    properties = {"name": {"type": "string", "maxLength": 5}, "right": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    found = chat(made, response_format=form, max_tokens=300, seed=1).choices[0]
    assert found.finish_reason == "stop"
    assert json.loads(found.message.content).keys() == properties.keys()
    with pytest.raises(openai.BadRequestError, match="constraint is not valid"):
        chat(made, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no"}}})


def test_what_the_cache_holds_is_not_run_again(made: Serving) -> None:
    history = [*MESSAGES]
    first = chat(made, max_tokens=8)
    history += [{"role": "assistant", "content": "ab"}, {"role": "user", "content": "more"}]
    second = chat(made, messages=history, max_tokens=4)
    # Up to where the two prompts part, at the beginning of the answer
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens
    exact = [chat(made, messages=history, max_tokens=4, seed=1).usage.prompt_tokens_details.cached_tokens for _ in "ab"]
    assert all(cached % CHUNK == 0 for cached in exact)
    assert exact[1] >= first.usage.prompt_tokens // CHUNK * CHUNK


def test_two_clients_at_once(made: Serving) -> None:
    alone = [streamed(made, seed=seed, max_tokens=60) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            both = pool.map(lambda seed: streamed(made, seed=seed, max_tokens=60), range(2))
            assert list(both) == alone


def test_health_tells_how_many_wait() -> None:
    with serving() as made, ThreadPoolExecutor(1) as pool:
        made.engine.gate.clear()
        asked = pool.submit(chat, made)
        assert made.engine.waiting.wait(10)
        assert HTTP.get(made.url.replace("/v1", "/health")).json() == {"status": "ok", "requests": 1}
        made.engine.gate.set()
        assert asked.result().choices
