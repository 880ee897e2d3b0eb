"""A language model as a program of its own: the engine's tokens, and plain words where something is wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import edgert
from edgert import exe
from edgert.artifact import Artifact
from edgert.errors import UsageError
from edgert.llm.engine import open_engine
from tests.llm.small_models import LONG, artifact, gguf

PROMPT = [5, 9, 200, 3, 77, 4, 31, 8, 250]
CONTEXT = 64  # of the small models


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exe.build(artifact(), tmp_path_factory.mktemp("program") / "small")


def run(program: Path, *words: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False, input=text)


def comma(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))


def greedy(count: int, chunk: int) -> list[int]:
    """The engine's tokens."""
    with open_engine(artifact(), threads=1) as engine:
        engine.chunk = chunk
        found = [int(engine.prefill(PROMPT).argmax())]
        while len(found) < count:
            found.append(int(engine.decode(found[-1]).argmax()))
    return found


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_engines_tokens(program: Path, chunk: int, threads: int) -> None:
    words = ["--ids", comma(PROMPT), "--max-tokens", 20, "--threads", threads, "--ignore-end", "--chunk", chunk]
    done = run(program, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == comma(greedy(20, chunk)) + "\n"


@pytest.mark.parametrize("guesses", [1, 7])
def test_guesses_give_the_same_text_in_fewer_runs(program: Path, guesses: int) -> None:
    words = ["--ids", comma(PROMPT * 3), "--max-tokens", 30, "--threads", 1, "--ignore-end", "--json"]
    plain, tried = (json.loads(run(program, *words, *more).stdout) for more in ((), ("--guess", guesses)))
    assert (tried["ids"], tried["finish"]) == (plain["ids"], plain["finish"])
    assert plain["runs"] == plain["tokens"] - 1
    assert tried["runs"] < plain["runs"]


def test_figures(program: Path) -> None:
    words = ["--max-tokens", 20, "--context", 40, "--threads", 1, "--ignore-end", "--json"]
    found = json.loads(run(program, "--ids", "-", *words, text=" ".join(map(str, PROMPT)) + "\n").stdout)
    assert found["ids"] == greedy(20, 40) and found["finish"] == "length" and found["tokens"] == 20
    assert found["prompt_tokens"] == len(PROMPT) and found["context"] == 40
    assert found["first_token_seconds"] > 0 and found["tokens_per_second"] == pytest.approx(
        19 / found["decode_seconds"], rel=1e-2
    )
    with open_engine(artifact(), context=40) as engine:
        assert found["cache_bytes"] == engine.cache_bytes
    assert found["cache_bytes"] < found["peak_rss_bytes"] < 1 << 26


def test_how_a_text_ends(program: Path) -> None:
    tokens = greedy(CONTEXT - len(PROMPT) + 1, 64)
    full = json.loads(run(program, "--ids", comma(PROMPT), "--ignore-end", "--json").stdout)
    assert full["ids"] == tokens and full["finish"] == "context"
    last = tokens[6]
    ended = json.loads(run(program, "--ids", comma(PROMPT), "--end", f"{last},1", "--json").stdout)
    assert ended["finish"] == "end" and ended["ids"] == tokens[: tokens.index(last) + 1]


def test_the_models_own_ends(program: Path) -> None:
    assert Artifact.open(artifact()).manifest["decoder"]["ends"] == [0, 2]  # <|endoftext|> and <|im_end|>
    ends = json.loads(run(program, "--ids", comma(PROMPT), "--json").stdout)
    given = json.loads(run(program, "--ids", comma(PROMPT), "--end", "0,2", "--json").stdout)
    assert ends["ids"] == given["ids"] and ends["finish"] == given["finish"]


@pytest.mark.parametrize(
    "words, code, message",
    [
        ([], 2, "give --ids 1,2,3"),
        (["--ids", "5,x"], 2, "'x' is not a token id from 0 to"),
        (["--ids", "5,999999"], 2, "'999999' is not a token id"),
        (["--ids", ""], 2, "at least one token id"),
        (["--ids", "5", "--context", 65], 2, "--context 65: the model was compiled for at most 64"),
        (["--ids", "5", "--chunk", 65], 2, "--chunk 65: the model was compiled for at most 64"),
        (["--ids", "5,6,7", "--context", 2], 4, "the text has 3 tokens, the context 2"),
        (["--ids", "5", "--max-tokens", 0], 2, "--max-tokens 0: give a number from 1"),
        (["--prompt", "Hello"], 2, "--prompt is not an option: see --help"),
        (["--ids"], 2, "--ids needs a value"),
        (["--ids", "5", "--dram", "10K"], 4, "the budget is 10240"),
    ],
)
def test_refusals(program: Path, words: list[object], code: int, message: str) -> None:
    done = run(program, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_help(program: Path) -> None:
    done = run(program, "--help")
    assert done.returncode == 0 and "--max-tokens" in done.stdout


@pytest.mark.parametrize(("kv", "chunk"), [("i2", 128), ("i4", 60)])
def test_caches_of_few_bits(tmp_path: Path, kv: str, chunk: int) -> None:
    """Rows are folded as the engine has it, also where a chunk of more was asked for."""
    program = exe.build(artifact(LONG), tmp_path / "small", kv)
    prompt = PROMPT * 30
    with open_engine(artifact(LONG), threads=1, cache=kv) as engine:
        engine.chunk = chunk
        expected = [int(engine.prefill(prompt).argmax())]
        while len(expected) < 60:
            expected.append(int(engine.decode(expected[-1]).argmax()))
    words = ["--ids", comma(prompt), "--max-tokens", 60, "--threads", 1, "--ignore-end", "--context", 400]
    done = run(program, *words, "--chunk", 256 if chunk == 128 else chunk, "--json")
    assert json.loads(done.stdout)["ids"] == expected
    with open_engine(artifact(LONG), threads=1, context=400, cache=kv) as engine:
        assert json.loads(done.stdout)["cache_bytes"] == engine.cache_bytes


@pytest.mark.slow
def test_compiled_with_such_a_cache(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--emit exe"):
        edgert.compile(gguf(LONG), tmp_path / "m.edge", kv="i2")
    edgert.compile(gguf(LONG), tmp_path / "m", emit="exe", kv="i2")
    done = run(tmp_path / "m", "--ids", comma(PROMPT * 30), "--max-tokens", 9, "--json")
    assert len(json.loads(done.stdout)["ids"]) == 9
