"""Strings chosen to be hard, tokenized as llama.cpp does (smollm2_excerpt.json says what was checked)."""

import json
from pathlib import Path

from edgert.llm.tokenizer import Tokenizer
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf

EXCERPT = json.loads(Path(__file__).with_name("smollm2_excerpt.json").read_text())


def test_every_case_is_tokenized_alike() -> None:
    metadata = {f"tokenizer.ggml.{name}": EXCERPT[name] for name in ("tokens", "token_type", "merges")}
    metadata |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.eos_token_id": 2}
    tokenizer = Tokenizer(*tokenizer_from_gguf(metadata))
    assert len(EXCERPT["cases"]) > 300
    wrong = [text for text, special, ids in EXCERPT["cases"] if tokenizer.encode(text, special) != ids]
    assert wrong == []
    assert all(tokenizer.decode(ids, special=True) == text for text, _, ids in EXCERPT["cases"])
