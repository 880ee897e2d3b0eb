"""`edgert serve` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from edgert.cli.errors import describe
from edgert.cli.serve import command
from edgert.errors import EdgertError, UsageError
from tests.serve.serving import client

GROWTH = 3 << 20
"""Bytes that 200 requests may add: what Python's and the C library's heaps still settle by after the first twenty. A
leak of 16 KB a request, one prompt's text or one table, is more."""


def failure(*args: str, **env: str) -> tuple[Exception, int]:
    """The error of a command line that never comes to serve, and the exit code that it gives."""
    found = CliRunner().invoke(command, list(args), standalone_mode=False, env=env).exception
    assert isinstance(found, Exception)
    return found, describe(found)[1]


@pytest.fixture
def any_file(tmp_path: Path) -> str:
    (tmp_path / "any.edge").write_bytes(b"not an artifact")
    return str(tmp_path / "any.edge")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_host_needs_a_key(any_file: str, host: str) -> None:
    error, code = failure(any_file, "--host", host)
    assert isinstance(error, UsageError) and code == 2
    assert "--api-key" in str(error)


@pytest.mark.parametrize(
    "args",
    [["--api-key", ""], ["--api-key", " "], ["--host", "no such host"], ["--port", "70000"], ["--max-queue", "-1"]],
)
def test_wrong_use(any_file: str, args: list[str]) -> None:
    assert failure(any_file, "--port", "0", *args)[1] == 2


def test_a_port_that_is_taken(any_file: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        error, code = failure(any_file, "--port", str(taken.getsockname()[1]))
    assert isinstance(error, EdgertError) and code == 1
    assert "in use" in str(error)


def test_a_damaged_artifact(any_file: str) -> None:
    error, code = failure(any_file, "--port", "0")
    assert isinstance(error, EdgertError) and code == 1


def test_without_the_extra(any_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("edgert.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error, code = failure(any_file)
    assert code == 2 and "pip install 'edgert[serve]'" in str(error)


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return client(self.facts["url"])

    @property
    def resident(self) -> int:
        """Bytes of memory that the process holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(artifact: Path, *args: str) -> Iterator[Running]:
    line = [
        sys.executable,
        "-m",
        "edgert.cli",
        "serve",
        str(artifact),
        "--port",
        "0",
        "--threads",
        "1",
        "--json",
        *args,
    ]
    log = artifact.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=Path(__file__).parents[2]
        )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first, log.read_text()
        yield Running(process, json.loads(first), log)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of one layer, compiled."""
    pytest.importorskip("tvm")
    from dataclasses import replace

    import edgert
    from tests.decoder.small import CASES, write
    from tests.llm.made import byte_metadata

    folder, metadata = tmp_path_factory.mktemp("served"), byte_metadata()
    vocab = len(metadata["tokenizer.ggml.tokens"])
    small = replace(
        CASES["llama"], vocab=vocab, context=512, layers=1, heads=2, kv_heads=1, head=32, rotated=32, kinds=("Q8_0",)
    )
    write(folder / "made.gguf", small, keys=metadata)
    edgert.compile(folder / "made.gguf", folder / "made.edge", context=512, golden=False)
    return folder / "made.edge"


def ask(served: Running, prompt: str = "the hall", **more: Any) -> Any:
    return served.client.completions.create(**{"model": "made", "prompt": prompt, "max_tokens": 16} | more)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_end(artifact: Path, how: signal.Signals) -> None:
    with running(artifact, "--context", "256", "--kv", "int8") as served:
        assert (served.facts["context"], served.facts["kv"]) == (256, "i8")
        long = "in the hall and then " * 9  # more than one chunk with the template
        messages: Any = [{"role": "user", "content": long}]
        chat = served.client.chat.completions
        texts = {
            chat.create(model="made", messages=messages, max_tokens=20, seed=5).choices[0].message.content
            for _ in "abc"
        }
        assert len(texts) == 1
        parts = chat.create(model="made", messages=messages, max_tokens=20, seed=5, stream=True)
        assert {"".join(part.choices[0].delta.content or "" for part in parts)} == texts
        served.process.send_signal(how)
        assert (served.process.wait(timeout=30), served.log.read_text()) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["0", "4M"])
def test_exact_requests_whatever_came_before(artifact: Path, pool: str) -> None:
    """The compiled engine's own numbers depend on how tokens are grouped; the answers must not."""
    prompt = [3 + i * i % 200 for i in range(300)]
    with running(artifact, "--prefix-pool", pool) as served:
        first = ask(served, prompt=prompt, temperature=0, max_tokens=40)  # type: ignore[arg-type]
        for other in (prompt[:280], [*prompt, 7, 8], prompt[5:], prompt):
            ask(served, prompt=other)  # type: ignore[arg-type]
            again = ask(served, prompt=prompt, temperature=0, max_tokens=40)  # type: ignore[arg-type]
            assert again.choices[0].text == first.choices[0].text
            if pool != "0":
                assert again.usage.prompt_tokens_details.cached_tokens == 256
        assert again.usage.prompt_tokens_details.cached_tokens == 256


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["0", "256K"])  # the first texts fill the pool
def test_memory_is_flat(artifact: Path, pool: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}}
    with running(artifact, "--prefix-pool", pool) as served:

        def some(count: int) -> None:
            for i in range(count):
                ask(served, prompt=f"{i} the hall " * (1 + i % 30), seed=i)
                if i % 4 == 0:  # one that leaves, one that is refused, one with a constraint
                    stream = ask(served, max_tokens=400, stream=True)
                    next(stream)
                    stream.close()
                    with pytest.raises(openai.BadRequestError):
                        ask(served, prompt="a" * 5000)
                    chat: Any = served.client.chat.completions.create
                    chat(model="made", messages=[{"role": "user", "content": "a"}], response_format=form, max_tokens=9)

        some(20)
        before = served.resident
        some(200)
        assert served.resident - before < GROWTH


@pytest.mark.slow
def test_no_language_model(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    import edgert
    from tests.cli.models import small

    edgert.compile(small(tmp_path / "small.onnx"), tmp_path / "small.edge", golden=False)
    error, code = failure(str(tmp_path / "small.edge"), "--port", "0")
    assert code == 2 and "not a language model" in str(error)


@pytest.mark.slow
@pytest.mark.registry
def test_a_real_model(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    import edgert
    from compiler.zoo import pull

    model = pull("smollm2", tmp_path)
    edgert.compile(model, tmp_path / "smollm2.edge", context=1024, golden=False)
    with running(tmp_path / "smollm2.edge") as served:
        found = ask(served, model="smollm2", prompt="The capital of France is", temperature=0, stop=".")
        assert found.choices[0].text == " Paris"
        messages: Any = [{"role": "user", "content": "Say hello."}]
        first = served.client.chat.completions.create(model="smollm2", messages=messages, max_tokens=30)
        messages += [{"role": "assistant", "content": first.choices[0].message.content}]
        messages += [{"role": "user", "content": "Now say it louder."}]
        second = served.client.chat.completions.create(model="smollm2", messages=messages, max_tokens=30)
        assert first.usage is not None and second.usage is not None
        details = second.usage.prompt_tokens_details
        assert details is not None and (details.cached_tokens or 0) >= first.usage.prompt_tokens
