"""A server in this process, over an engine of numpy tables, and raw HTTP where the openai client is too polite."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx2 as httpx
import numpy as np
import openai
import pytest
import uvicorn

from edgert.llm.chat import ChatTemplate
from edgert.llm.tokenizer import Tokenizer
from edgert.serve.app import make_app
from edgert.serve.prompts import Prompts
from edgert.serve.run import Settings, address, configured, listen
from edgert.serve.worker import Worker
from tests.llm.fake_engine import FakeEngine
from tests.llm.made import byte_tokenizer

CHUNK = 16
SECONDS = 20.0  # how long a test waits for what should come at once
HTTP = httpx.Client(
    verify=False, timeout=SECONDS
)  # one for all: certificates that nothing here needs take long to load


class TableEngine(FakeEngine):
    """Never ends a text by itself, if `endless`; each pass waits for `gate`, then takes `pause` seconds."""

    def __init__(self, vocab: int, context: int = 512, endless: bool = True, pause: float = 0.0) -> None:
        super().__init__(vocab, context=context)
        self._table[:, 0] = -50  # <|endoftext|> and <|im_start|> are unlikely in a real model too
        self._table[:, 1] = -50
        self._table[:, 2] = -50 if endless else self._table[:, 2] + 2
        self.pause, self.gate = pause, threading.Event()
        self.gate.set()
        self.fails: Exception | None = None
        self.waiting = threading.Event()

    def _logits(self, path: Sequence[int]) -> np.ndarray:
        if not self.gate.is_set():
            self.waiting.set()
            assert self.gate.wait(SECONDS)
        time.sleep(self.pause)
        if self.fails is not None:
            raise self.fails
        return super()._logits(path)


@dataclass
class Serving:
    """A running server and what is inside it."""

    url: str
    engine: TableEngine
    tokenizer: Tokenizer
    worker: Worker
    server: uvicorn.Server

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def client(self, key: str = "unused") -> openai.OpenAI:
        return client(self.url, key)

    def until_idle(self) -> None:
        wait_until(lambda: self.worker.admitted == 0)


@contextlib.contextmanager
def serving(
    engine: TableEngine | None = None, max_queue: int = 16, max_body: int = 1 << 20, key: str | None = None
) -> Iterator[Serving]:
    """A server on a free port of this machine."""
    tokenizer = byte_tokenizer()
    engine = engine or TableEngine(tokenizer.vocab)
    listener = listen(Settings(port=0, api_key=key))
    template = ChatTemplate(tokenizer.config["chat_template"])
    with contextlib.closing(listener), template, Worker(engine, tokenizer, CHUNK, max_queue) as worker:
        prompts = Prompts(tokenizer, template, engine.context, engine.vocab)
        server = uvicorn.Server(configured(make_app("made", engine.context, prompts, worker, max_body, key)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Serving(address(listener), engine, tokenizer, worker, server)
        finally:
            engine.gate.set()
            worker.stop()
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def made() -> Iterator[Serving]:
    """A server that several tests of a module share."""
    with serving() as running:
        yield running


def client(url: str, key: str = "unused") -> openai.OpenAI:
    """OpenAI's own client, that tries once."""
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=SECONDS, http_client=HTTP)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def raw(port: int, request: bytes) -> socket.socket:
    """A connection on which `request` has been sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(request)
    return connection


def head(path: str, length: int | None = None, **headers: str) -> bytes:
    """The head of a POST; names of headers with _ for -."""
    lines = {"Host": "localhost", "Content-Type": "application/json"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    lines |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{text}\r\n".encode()


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes or the answer's head and a little more is there."""
    with connection:
        data = b""
        while b"\r\n\r\n" not in data and (part := connection.recv(65536)):
            data += part
        return data
