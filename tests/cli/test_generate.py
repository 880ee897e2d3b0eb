"""`edgert generate` on small compiled models: text, conversations, figures, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler.codegen.cache import cache_dir
from edgert.cli import main
from edgert.llm.engine import open_engine
from edgert.llm.generate import Generation, Options
from edgert.llm.text_model import open_text_model
from tests.cli.conftest import Edgert, assert_one_line
from tests.llm.small_models import LONG, artifact, gguf

COMMAND = [sys.executable, "-m", "edgert.cli", "generate"]
CONTEXT = 64  # of the small models


def right_text(prompt: str, count: int) -> str:
    """What the same engine writes without the command line."""
    with open_text_model(artifact(), threads=1) as model, model.engine() as engine:
        ids = model.tokenizer.encode(prompt)
        return "".join(event.text for event in Generation(engine, ids, model.tokenizer, Options(max_tokens=count)))


def test_text_goes_to_stdout_figures_to_stderr() -> None:
    options = [str(artifact()), "--prompt", "the end", "--max-tokens", "12", "--threads", "1"]
    done = subprocess.run([*COMMAND, *options], capture_output=True, check=True)
    assert done.stdout.decode() == right_text("the end", 12) + "\n"
    figures = done.stderr.decode()
    for part in (
        r"prompt \d+ tokens, [\d.]+ tokens/s",
        r"first token after \d+ ms",
        r"then 11 tokens, [\d.]+ tokens/s",
    ):
        assert re.search(part, figures), figures
    assert re.search(r"memory: peak [\d.]+ MiB; KV cache [\d.]+ KiB for \d+ tokens, arena [\d.]+ [KM]iB", figures)


def test_json_has_everything(edgert: Edgert) -> None:
    result = edgert("generate", artifact(), "--prompt", "the end", "--max-tokens", 12, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    (turn,) = report["turns"]
    assert turn["text"] == right_text("the end", 12) and turn["finish"] == "length"
    statistics = turn["statistics"]
    assert statistics["tokens"] == 12 and statistics["prefill_rate"] > 0 and statistics["decode_rate"] > 0
    assert 0 < statistics["prefill_seconds"] <= statistics["first_token_seconds"]
    assert report["context"] == statistics["prompt_tokens"] + 12
    with open_engine(artifact(), context=report["context"]) as engine:
        assert report["cache_bytes"] == engine.cache_bytes and report["arena_bytes"] == engine.model.arena_bytes
    assert report["memory"]["peak_rss"] > report["cache_bytes"] + report["arena_bytes"]


def test_a_prompt_from_a_file_or_standard_input(edgert: Edgert, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("the end", encoding="utf-8")
    result = edgert("generate", artifact(), "--prompt-file", tmp_path / "prompt.txt", "--max-tokens", 5)
    assert result.stdout == right_text("the end", 5) + "\n"
    options = ["generate", str(artifact()), "--prompt-file", "-", "--max-tokens", "5"]
    assert CliRunner().invoke(main, options, input="the end").stdout == result.stdout


@pytest.mark.parametrize("speculate", ["lookup", "recycle", "both"])
def test_speculation_writes_the_same(edgert: Edgert, speculate: str) -> None:
    prompt = "and the end and the end and the"
    options = ("generate", artifact(), "--prompt", prompt, "--max-tokens", 30, "--json")
    plain = json.loads(edgert(*options).stdout)["turns"][0]
    (turn,) = json.loads(edgert(*options, "--speculate", speculate).stdout)["turns"]
    assert turn["text"] == plain["text"]
    assert turn["statistics"]["drafted"] > 0 and turn["statistics"]["accepted"] <= turn["statistics"]["drafted"]


def test_a_seed_draws_the_same(edgert: Edgert) -> None:
    def text(seed: int) -> str:
        options = ("--temperature", 1.5, "--top-k", 0, "--top-p", 1, "--min-p", 0, "--max-tokens", 16, "--seed", seed)
        return edgert("generate", artifact(), "--prompt", "the end", *options).stdout

    assert text(1) == text(1) != text(2)


def test_regex_and_stop(edgert: Edgert) -> None:
    result = edgert("generate", artifact(), "--prompt", "number ", "--regex", "[0-9]{4}", "--json")
    (turn,) = json.loads(result.stdout)["turns"]
    assert re.fullmatch("[0-9]{4}", turn["text"])
    stop = turn["text"][2]
    again = edgert("generate", artifact(), "--prompt", "number ", "--regex", "[0-9]{4}", "--stop", stop, "--json")
    (stopped,) = json.loads(again.stdout)["turns"]
    assert stopped["finish"] == "stop" and stopped["text"] == turn["text"].split(stop)[0]


def test_a_schema(edgert: Edgert, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "properties": {}, "maxProperties": 0}))
    options = ("--json-schema", tmp_path / "schema.json", "--max-tokens", 50, "--json")
    result = edgert("generate", artifact(), "--prompt", "x", *options)
    assert result.exit_code == 0, result.stderr
    (turn,) = json.loads(result.stdout)["turns"]
    assert turn["finish"] in ("constraint", "end", "length")
    assert re.match(r"\{\s*\}?", turn["text"])


def chat(*options: object, lines: str) -> dict:
    arguments = ["generate", str(artifact()), "--chat", "--json", *map(str, options)]
    result = CliRunner().invoke(main, arguments, input=lines)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_conversation_goes_on_from_the_cache() -> None:
    report = chat("--max-tokens", 4, "--system", "in", lines="a\n\nb\n")
    first, second = report["turns"]
    assert first["reused"] == 0
    # All of the first turn's prompt; of the answer what its text, tokenized again, begins with
    assert second["reused"] >= first["statistics"]["prompt_tokens"]
    whole = second["reused"] + second["statistics"]["prompt_tokens"]
    # The same conversation without a cache to go on from gives the same answer
    with open_text_model(artifact()) as model, model.engine() as engine, model.chat_template() as template:
        from edgert.llm.chat_prompt import chat_ids

        said = [("system", "in"), ("user", "a"), ("assistant", first["text"]), ("user", "b")]
        ids = chat_ids(model.tokenizer, template, [{"role": role, "content": text} for role, text in said])
        assert len(ids) == whole
        generation = Generation(engine, ids, model.tokenizer, Options(max_tokens=4))
        assert "".join(event.text for event in generation) == second["text"]


def test_the_oldest_messages_are_forgotten() -> None:
    report = chat("--max-tokens", 6, lines="a b c d\n" * 4)
    assert len(report["turns"]) == 4 and report["forgotten"] > 0
    assert all(turn["statistics"]["tokens"] > 0 for turn in report["turns"])


def test_a_prompt_is_the_first_message() -> None:
    with_prompt = chat("--max-tokens", 3, "--prompt", "a", lines="b\n")
    assert [turn["text"] for turn in with_prompt["turns"]] == [
        turn["text"] for turn in chat("--max-tokens", 3, lines="a\nb\n")["turns"]
    ]


WRONG = [
    ([], 2, "give --prompt"),
    (["--prompt", ""], 2, "no tokens"),
    (["--prompt", "a", "--prompt-file", "-"], 2, "not both"),
    (["--prompt", "a", "--system", "b"], 2, "--chat"),
    (["--prompt", "a", "--context", CONTEXT + 1], 2, f"1 to {CONTEXT}"),
    (["--prompt", "a" * CONTEXT * 2], 4, f"the context has {CONTEXT}"),
    (["--prompt", "abcdefgh", "--context", 4], 4, "the context has 4"),
    (["--chat", "--prompt", "a" * CONTEXT], 4, f"the context has {CONTEXT}"),
    (["--prompt", "a", "--temperature", "warm"], 2, "--temperature"),
    (["--prompt", "a", "--temperature", "-1"], 2, "--temperature"),
    (["--prompt", "a", "--temperature", "nan"], 2, "temperature"),
    (["--prompt", "a", "--top-p", "0"], 2, "top_p"),
    (["--prompt", "a", "--max-tokens", "0"], 2, "--max-tokens"),
    (["--prompt", "a", "--speculate", "magic"], 2, "--speculate"),
    (["--prompt", "a", "--speculate", "lookup", "--temperature", "1"], 2, "--temperature 0"),
    (["--prompt", "a", "--kv", "f64"], 2, "--kv"),
    (["--prompt", "a", "--regex", "("], 2, "regex"),
    (["--prompt", "a", "--threads", "0"], 2, "--threads"),
    (["--prompt", "\udcff"], 1, "not valid Unicode"),
    (["--prompt-file", sys.executable], 1, "not UTF-8"),
    (["--prompt", "a", "--json-schema", __file__], 2, "constraint"),
]


@pytest.mark.parametrize(("options", "code", "words"), WRONG)
def test_wrong_use(edgert: Edgert, options: list[object], code: int, words: str) -> None:
    assert_one_line(edgert("generate", artifact(), *options), code, words)


def test_not_a_language_model(edgert: Edgert, fake: Path) -> None:
    assert_one_line(edgert("generate", fake, "--prompt", "a"), 2, "not a language model")


def test_no_such_file(edgert: Edgert, tmp_path: Path) -> None:
    assert_one_line(edgert("generate", tmp_path / "absent.edge", "--chat"), 2, "absent.edge")


def test_a_cut_gguf(edgert: Edgert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf().read_bytes()[:-100])
    result = edgert("generate", cut, "--prompt", "a")
    said, error = result.stderr.splitlines()
    assert result.exit_code == 1 and "compiling" in said
    assert error.startswith("edgert: cut.gguf: is cut or damaged")
    assert not list((tmp_path / "cache").rglob("*.edge"))


@pytest.mark.slow
def test_a_gguf_is_compiled_once(edgert: Edgert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGERT_CACHE", str(cache_dir()))  # of kernels, which are not what this looks at
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = ("generate", gguf(), "--prompt", "the end", "--max-tokens", 5)
    first, second = edgert(*options), edgert(*options)
    assert "compiling" in first.stderr and "compiling" not in second.stderr
    assert first.stdout == second.stdout == right_text("the end", 5) + "\n"
    assert len(list(tmp_path.rglob("*.edge"))) == 1


def test_a_reader_that_leaves_while_text_streams() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*COMMAND, str(artifact()), "--prompt", "the end"]
    done = subprocess.run(command, check=False, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children can be interrupted, also where the tests run in a shell's background, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt() -> None:
    command = [*COMMAND, str(artifact()), "--chat", "--max-tokens", "3"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdin is not None and running.stdout is not None and running.stderr is not None
        running.stdin.write("a\n")
        running.stdin.flush()
        assert running.stdout.readline()  # it has answered, and waits for the next line
        running.send_signal(signal.SIGINT)
        errors = running.stderr.read()
        assert running.wait() == 130
    assert errors.strip() == "edgert: interrupted"


@pytest.mark.parametrize("kv", ["int8", "int4", "int2"])
def test_smaller_caches(edgert: Edgert, kv: str) -> None:
    options = ("generate", artifact(LONG), "--prompt", "the end", "--max-tokens", 12, "--context", 512, "--json")
    plain, small = json.loads(edgert(*options).stdout), json.loads(edgert(*options, "--kv", kv).stdout)
    assert small["cache_bytes"] < plain["cache_bytes"]
    assert small["turns"][0]["statistics"]["tokens"] == 12


def test_forgetting_by_attention(edgert: Edgert) -> None:
    options = ("generate", artifact(LONG), "--prompt", "the end" * 40, "--max-tokens", 12, "--kv-evict", "snapkv")
    result = json.loads(edgert(*options, "--kv-window", 160, "--json").stdout)
    assert result["context"] == 160 and result["turns"][0]["statistics"]["prompt_tokens"] > 160
    assert_one_line(edgert(*options), 2, "--kv-window and --kv fp16")
    assert_one_line(edgert(*options, "--kv-window", 160, "--kv", "int8"), 2, "--kv-window and --kv fp16")
    other = ("generate", artifact("gemma3"), *options[2:], "--kv-window", 160)
    assert_one_line(edgert(*other), 2, "keeps no queries", "layers all see the whole text")


@pytest.mark.parametrize("command", ["run", "bench", "verify"])
def test_other_commands_say_what_to_use(edgert: Edgert, command: str) -> None:
    assert_one_line(edgert(command, gguf()), 2, "is a language model", "edgert generate")


def test_run_says_what_to_use(edgert: Edgert) -> None:
    assert_one_line(edgert("run", artifact(), "--input", "ids=zeros"), 2, "edgert generate")
