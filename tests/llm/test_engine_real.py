"""SmolLM2, compiled: greedy tokens beside ONNX Runtime on the file's weights in floats."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

import edgert
from benchmarks.llm_texts import texts
from compiler.decoder import open_gguf
from compiler.decoder.rounded import round_like_compiled
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from compiler.zoo import pull
from edgert.llm.perplexity import measure, windows
from edgert.llm.text_model import open_text_model

pytestmark = [pytest.mark.slow, pytest.mark.registry]

TOKENS = 64
PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time, in a village by the sea,",
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
    "To make a cup of tea, first",
)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pull("smollm2", tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def artifact(gguf: Path) -> Path:
    edgert.compile(gguf, gguf.with_suffix(".edge"), context=512, golden=False)
    return gguf.with_suffix(".edge")


def test_greedy_tokens(gguf: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is what the reference finds likeliest after those before it, or nearly so."""
    decoder, weights, _ = open_gguf(gguf, context=256)
    exact = to_onnx(decoder, weights, tmp_path / "exact.onnx")
    rounded = round_like_compiled(exact, weights, tmp_path / "rounded.onnx")
    with open_text_model(artifact) as model, model.engine() as engine:
        for prompt in PROMPTS:
            ids = model.tokenizer.encode(prompt, special=True)
            engine.reset()
            tokens = [int(engine.prefill(ids).argmax())]
            while len(tokens) < TOKENS:
                tokens.append(int(engine.decode(tokens[-1]).argmax()))
            path_taken = [*ids, *tokens[:-1]]
            want = Session(exact, decoder).feed(path_taken)[-TOKENS:]
            answer = want.argmax(axis=1)
            differing = np.flatnonzero(tokens != answer)
            with capsys.disabled():
                print(f"\n{prompt!r}: {TOKENS - len(differing)} of {TOKENS} tokens equal", end="")
            if not len(differing):
                continue
            error = (Session(rounded, decoder).feed(path_taken)[-TOKENS:] - want).std(axis=1)
            for at in differing:
                # Two logits change places when their errors differ by the gap; each is as 8-bit activations alone
                # make it (the spread over the vocabulary), so it is 4 standard deviations of a difference at most
                gap = want[at, answer[at]] - want[at, tokens[at]]
                with capsys.disabled():
                    print(f"\n  token {at}: gap {gap:.3f}, errors of {error[at]:.3f} each", end="")
                assert gap < 4 * 2**0.5 * error[at]
            assert len(differing) < TOKENS / 8


@pytest.mark.parametrize("text", ["Lee news", "Python's topics"])
def test_two_bits_cost_little_perplexity(artifact: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Less than a twentieth, on windows of 512 tokens, whose scored half sees from 68 to 324 tokens in two bits."""
    found = []
    for kv in ("f16", "i2"):
        with open_text_model(artifact, kv=kv) as model, model.engine(512) as engine:
            ids = model.tokenizer.encode(texts()[text])
            cut = windows(ids, 512, None)
            found.append(deque(measure(engine, cut[:: len(cut) // 6]), maxlen=1)[0].perplexity)
    with capsys.disabled():
        print(f"\n{text}: {found[0]:.3f} in float16, {found[1]:.3f} in two bits", end="")
    assert found[0] < found[1] < 1.05 * found[0]
