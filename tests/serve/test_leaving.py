"""Clients that leave, and a server that ends."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.serve.serving import CHUNK, TableEngine, head, raw, serving, wait_until

LONG = 2000  # tokens, of 5 ms each: far more than may be run after the client has gone


def slow() -> TableEngine:
    return TableEngine(270, context=LONG + 100, pause=0.005)


def test_leaving_in_the_middle_of_a_stream() -> None:
    with serving(slow()) as made:
        stream = made.client().completions.create(model="made", prompt="a", max_tokens=LONG, stream=True)
        for _ in range(3):
            next(stream)
        stream.close()
        made.until_idle()
        assert made.engine.passes < LONG / 2
        # and the cache knows what it holds
        made.engine.pause = 0
        again = made.client().completions.create(model="made", prompt="a", max_tokens=20, temperature=0)
        with serving() as other:
            first = other.client().completions.create(model="made", prompt="a", max_tokens=20, temperature=0)
        assert again.choices[0].text == first.choices[0].text


def test_leaving_before_the_answer() -> None:
    body = json.dumps({"prompt": "a", "max_tokens": LONG}).encode()
    with serving(slow()) as made:
        connection = raw(made.port, head("/v1/completions", len(body)) + body)
        wait_until(lambda: made.engine.passes > 2)
        connection.close()
        made.until_idle()
        assert made.engine.passes < LONG / 2


def test_leaving_while_the_prompt_is_read() -> None:
    body = json.dumps({"prompt": [5] * LONG}).encode()
    with serving(slow()) as made:
        made.engine.pause = 0.05
        connection = raw(made.port, head("/v1/completions", len(body)) + body)
        wait_until(lambda: made.engine.passes > 2)
        connection.close()
        made.until_idle()
        assert made.engine.passes < LONG / CHUNK / 2


def test_leaving_the_queue() -> None:
    body = json.dumps({"prompt": "a", "max_tokens": LONG}).encode()
    with serving(max_queue=1) as made, ThreadPoolExecutor(1) as pool:
        made.engine.gate.clear()
        first = pool.submit(made.client().completions.create, model="made", prompt="a", max_tokens=2)
        assert made.engine.waiting.wait(10)
        connection = raw(made.port, head("/v1/completions", len(body)) + body)
        wait_until(lambda: made.worker.admitted == 2)
        connection.close()
        wait_until(lambda: sum(job.cancelled for job in made.worker._admitted) == 1)
        made.engine.gate.set()
        assert first.result().choices
        made.until_idle()
        assert made.engine.passes == 2  # the prompt and one token more: nothing for who left


def test_a_server_that_ends_says_so() -> None:
    with serving(slow()) as made:
        stream = made.client().completions.create(model="made", prompt="a", max_tokens=LONG, stream=True)
        next(stream)
        made.worker.stop()
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="shutting down") as caught:
            made.client().completions.create(model="made", prompt="a")
        assert caught.value.status_code == 503


def test_a_failure_in_the_middle_of_a_stream() -> None:
    with serving(slow()) as made:
        stream: Any = made.client().completions.create(model="made", prompt="a", max_tokens=LONG, stream=True)
        next(stream)
        made.engine.fails = ValueError("oops")
        with pytest.raises(openai.APIError, match="its log"):
            list(stream)
        made.until_idle()
