"""What the server refuses, and how it says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import openai
import pytest

from edgert.errors import DoesNotFit
from edgert.serve import guard
from tests.serve.serving import HTTP, Serving, TableEngine, answer, head, raw, serving, wait_until

USER: Any = {"role": "user", "content": "a"}


def post(made: Serving, json: Any, path: str = "/chat/completions", **headers: str) -> httpx.Response:
    return HTTP.post(made.url + path, json=json, headers=headers)


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"frobnicate": 1}, "frobnicate", "Unrecognized"),
        ({"n": 2}, "n", "does not do"),
        ({"logprobs": True}, "logprobs", "does not do"),
        ({"tools": [{"type": "function"}]}, "tools", "does not do"),
        ({"presence_penalty": 0.5}, "presence_penalty", "does not do"),
        ({"temperature": 2.5}, "temperature", "2.0"),
        ({"temperature": "hot"}, "temperature", "float"),
        ({"top_p": -1}, "top_p", "0"),
        ({"max_tokens": 0}, "max_tokens", "1"),
        ({"seed": 1.5}, "seed", "int"),
        ({"stop": ""}, "stop", "empty"),
        ({"stop": ["a"] * 17}, "stop", "16"),
        ({"messages": []}, "messages", "1"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role", "king"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "no content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "image_url"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0]", "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "missing"),
    ],
)
def test_fields(made: Serving, more: dict[str, Any], param: str, words: str) -> None:
    found = post(made, {"model": "made", "messages": [USER]} | more)
    error = found.json()["error"]
    assert (found.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]


def test_fields_that_ask_for_nothing_pass(made: Serving) -> None:
    nothing = {"n": 1, "logprobs": False, "tools": None, "presence_penalty": 0, "user": "me", "metadata": {"a": "b"}}
    assert post(made, {"messages": [USER], "max_tokens": 1, "stream": None} | nothing).status_code == 200


@pytest.mark.parametrize("prompt", [[], [[1, 2], [3]], ["a", "b"], [1, "a"], [-1], [270], [True], [1.5], ""])
def test_prompts(made: Serving, prompt: Any) -> None:
    found = post(made, {"prompt": prompt}, "/completions")
    assert (found.status_code, found.json()["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'{"a": 1', b"\xff", b"[" * 100_000, b'{"messages": "\\ud800"}', b"NaN", b""]
)
def test_bodies(made: Serving, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    found = HTTP.post(made.url + "/chat/completions", content=body, headers=headers)
    assert found.status_code == 400 and found.json()["error"]["message"]


def test_another_type_of_body(made: Serving) -> None:
    """A page elsewhere could send it without asking."""
    found = HTTP.post(made.url + "/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert found.status_code == 415 and "application/json" in found.json()["error"]["message"]


def test_paths_and_methods(made: Serving) -> None:
    assert HTTP.get(made.url + "/nothing").json()["error"]["type"] == "invalid_request_error"
    assert HTTP.get(made.url + "/nothing").status_code == 404
    assert HTTP.get(made.url + "/completions").status_code == 405


def test_another_model(made: Serving) -> None:
    with pytest.raises(openai.NotFoundError, match="`gpt-4` does not exist; this server has `made`"):
        made.client().completions.create(model="gpt-4", prompt="a")


def test_a_prompt_that_is_too_long(made: Serving) -> None:
    for count, path in ((513, "prompt"), (20_000, "prompt")):
        with pytest.raises(openai.BadRequestError, match=f"512 tokens.*{count} tokens") as caught:
            made.client().completions.create(model="made", prompt=[5] * count)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", path)
    long: Any = [{"role": "user", "content": "x" * 600}]
    with pytest.raises(openai.BadRequestError, match="512 tokens"):
        made.client().chat.completions.create(model="made", messages=long)
    assert made.client().completions.create(model="made", prompt=[5] * 512).choices[0].finish_reason == "length"


def test_a_large_body_is_not_waited_for(made: Serving) -> None:
    found = answer(raw(made.port, head("/v1/completions", 100_000_000)))  # no byte of it is sent
    assert b" 413 " in found and b"connection: close" in found


def test_a_large_body_of_unknown_length_is_not_read() -> None:
    sent = 0
    with serving(max_body=1 << 16) as made:
        connection = raw(made.port, head("/v1/completions"))
        piece = b"10000\r\n" + b" " * (1 << 16) + b"\r\n"
        try:
            for _ in range(100_000_000 >> 16):
                connection.sendall(piece)
                sent += len(piece)
        except OSError:  # the server has closed
            pass
        connection.close()
        # What the system's own buffers took on both sides is the rest
        assert sent < 50_000_000
        assert made.client().models.list().data


def test_a_body_that_does_not_come(made: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    assert b" 408 " in answer(raw(made.port, head("/v1/completions", 100) + b"{"))


def test_a_large_body_as_the_client_sees_it(made: Serving) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        made.client().completions.create(model="made", prompt="a" * 100_000_000)
    assert caught.value.status_code == 413


def test_keys() -> None:
    with serving(key="right") as made:
        assert made.client("right").models.list().data
        for wrong in ("wrong", "right2", "righ", "ü"):
            headers = {"authorization": f"Bearer {wrong}".encode()}
            assert HTTP.get(made.url + "/models", headers=headers).status_code == 401
        with pytest.raises(openai.AuthenticationError) as caught:
            made.client("wrong").completions.create(model="made", prompt="a")
        assert caught.value.code == "invalid_api_key"
        assert HTTP.get(made.url + "/models").status_code == 401
        assert b" 401 " in answer(raw(made.port, head("/v1/completions", 100_000_000)))  # before any body
        assert HTTP.get(made.url.replace("/v1", "/health")).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("[::1]:80", 200), ("evil.com", 403), ("", 403)])
def test_the_name_that_it_is_asked_by(made: Serving, host: str, status: int) -> None:
    assert HTTP.get(made.url + "/models", headers={"host": host}).status_code == status


def test_a_full_queue() -> None:
    with serving(max_queue=1) as made, ThreadPoolExecutor(2) as pool:
        made.engine.gate.clear()
        asked = [pool.submit(made.client().completions.create, model="made", prompt="a", seed=1) for _ in "ab"]
        wait_until(lambda: made.worker.admitted == 2)
        with pytest.raises(openai.RateLimitError, match="2 requests run or wait") as caught:
            made.client().completions.create(model="made", prompt="a")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        made.engine.gate.set()
        assert len({future.result().choices[0].text for future in asked}) == 1
        assert made.client().completions.create(model="made", prompt="a").choices


def test_no_place_is_lost_to_refused_requests() -> None:
    with serving(max_queue=0) as made:
        for _ in range(5):
            assert post(made, {"messages": [USER], "stop": ""}).status_code == 400
            assert post(made, {"messages": [USER], "max_tokens": 1}).status_code == 200


def test_an_engine_that_fails() -> None:
    with serving(TableEngine(270)) as made:
        for failure, words in ((DoesNotFit("no more memory"), "no more memory"), (ValueError("oops"), "its log")):
            made.engine.fails = failure
            with pytest.raises(openai.InternalServerError, match=words):
                made.client().completions.create(model="made", prompt="a")
            made.engine.fails = None
            assert made.client().completions.create(model="made", prompt="a").choices
