"""`edgert perplexity`, `compile --context` and `inspect` of a GGUF file, on small models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from compiler.decoder import open_gguf
from compiler.decoder.rounded import round_like_compiled
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from edgert.llm.perplexity import windows
from edgert.llm.text_model import open_text_model
from tests.cli.conftest import Edgert, assert_one_line
from tests.llm.small_models import artifact, gguf, small

TEXT = "In the end the hill and the inn, 12 and 12: the land in the end.\n\n" * 6


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "text.txt"


def by_onnxruntime(folder: Path, size: int, every: bool) -> float:
    """The same text and windows through the reference graph with the compiled decoder's roundings."""
    decoder, weights, _ = open_gguf(gguf())
    path = round_like_compiled(to_onnx(decoder, weights, folder / "a.onnx"), weights, folder / "b.onnx")
    with open_text_model(artifact()) as model:
        ids = model.tokenizer.encode(TEXT.removesuffix("\n"))
    losses: list[float] = []
    for window in windows(ids, size, None):
        logits = Session(path, decoder).feed(window).astype(np.float64)
        loss = np.log(np.exp(logits).sum(axis=1))[:-1] - logits[np.arange(size - 1), window[1:]]
        losses += list(loss[0 if every else size // 2 :])
    return float(np.exp(np.mean(losses)))


@pytest.mark.parametrize("every", [False, True])
def test_perplexity_is_the_references(edgert: Edgert, text: Path, tmp_path: Path, every: bool) -> None:
    options = ("--text", text, "--window", 32, "--json", *(["--all"] if every else []))
    result = edgert("perplexity", artifact(), *options)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["windows"] == report["text_tokens"] // 32 > 3
    assert report["tokens_scored"] == report["windows"] * (31 if every else 15)
    # Codes at ties (see tests/llm/test_engine_reference.py) move a logit by 1e-2 seldom, a mean of them by less
    assert report["perplexity"] == pytest.approx(by_onnxruntime(tmp_path, 32, every), rel=1e-3)
    assert report["tokens_per_second"] > 0 and report["memory"]["peak_rss"] > 0


def test_text_for_people(edgert: Edgert, text: Path) -> None:
    result = edgert("perplexity", artifact(), "--text", text, "--window", 32, "--windows", 2)
    assert result.exit_code == 0, result.stderr
    assert "perplexity" in result.stdout and "30 tokens scored in 2 windows of 32" in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--window", 512], 2, "less than one window of 512"),
        (["--window", 65], 2, "a context of 65 tokens: this artifact takes 1 to 64"),
        (["--window", 2], 2, "--window"),
        (["--text", sys.executable], 1, "not UTF-8"),
        (["--text", "absent.txt"], 2, "absent.txt"),
        (["--windows", 0], 2, "--windows"),
    ],
)
def test_wrong_use(edgert: Edgert, text: Path, options: list[object], code: int, words: str) -> None:
    assert_one_line(edgert("perplexity", artifact(), "--text", text, *options), code, words)


def test_not_a_language_model(edgert: Edgert, fake: Path, text: Path) -> None:
    assert_one_line(edgert("perplexity", fake, "--text", text), 2, "not a language model")


@pytest.mark.slow
def test_compile_with_a_context(edgert: Edgert, tmp_path: Path) -> None:
    out = tmp_path / "small.edge"
    assert edgert("compile", gguf(), "-o", out, "--context", 20).exit_code == 0
    with open_text_model(out) as model:
        assert model.most == 20
    assert_one_line(edgert("generate", out, "--prompt", "a" * 30), 4, "the context has 20")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--context", 1], "--context"), (["--shape", "x=1"], "--context"), (["--emit", "lib"], "--emit")],
)
def test_compile_options_that_are_not_for_it(edgert: Edgert, tmp_path: Path, options: list[object], words: str) -> None:
    assert_one_line(edgert("compile", gguf(), "-o", tmp_path / "x.edge", *options), 2, words)
    assert not (tmp_path / "x.edge").exists()


def test_inspect_a_gguf(edgert: Edgert) -> None:
    result = edgert("inspect", gguf(), "--json")
    assert result.exit_code == 0, result.stderr
    report, family = json.loads(result.stdout), small("llama")
    assert report["architecture"] == "llama" and report["layers"] == family.layers
    for name in ("vocab", "width", "heads", "kv_heads", "ffn", "context"):
        assert report[name] == getattr(family, name)
    assert report["cache_bytes_per_token"] == 2 * 2 * family.layers * family.kv_heads * family.head
    assert sum(entry["bytes"] for entry in report["types"].values()) < report["file_bytes"]
    assert report["parameters"] > family.vocab * family.width
    assert "llama language model" in edgert("inspect", gguf()).stdout


def test_inspect_what_is_no_gguf(edgert: Edgert, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf().read_bytes()[:1000])
    assert_one_line(edgert("inspect", cut), 1, "damaged")
    assert_one_line(edgert("inspect", gguf(), "--ram", "1M"), 2, "language model")


def test_inspect_a_compiled_one(edgert: Edgert) -> None:
    report = json.loads(edgert("inspect", artifact(), "--json").stdout)
    assert report["decoder"]["architecture"] == "llama"
    assert "and 1 more" in edgert("inspect", artifact()).stdout
