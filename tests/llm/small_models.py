"""Small seeded language models with a tokenizer, as GGUF files and compiled once for all tests of a process."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import edgert
from tests.decoder.small import CASES, Small, write
from tests.llm.made import byte_metadata

VOCAB = len(byte_metadata()["tokenizer.ggml.tokens"])


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgert-small-")  # goes with the process


def small(case: str) -> Small:
    """The family as tests/decoder has it, with a byte tokenizer's vocabulary and heads as wide as a block of the cache.

    What was turned whole is so again."""
    family = CASES[case]
    head = max(32, family.head)
    return replace(family, vocab=VOCAB, head=head, rotated=head if family.rotated == family.head else family.rotated)


@cache
def gguf(case: str = "llama") -> Path:
    """The model as a GGUF file."""
    path = Path(_folder().name) / f"{case}.gguf"
    write(path, small(case), keys=byte_metadata())
    return path


@cache
def artifact(case: str = "llama") -> Path:
    """The model compiled for this machine."""
    path = Path(_folder().name) / f"{case}.edge"
    edgert.compile(gguf(case), path, golden=False)
    return path
