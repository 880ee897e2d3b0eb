"""Small seeded language models with a tokenizer, as GGUF files and compiled, once for all processes of a test run."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import edgert
from compiler.tune import Records, Tuner
from edgert.artifact import write as write_artifact
from edgert.llm.build import compile_decoder
from targets import get_target
from tests.decoder.small import CASES, Small, write
from tests.llm.made import byte_metadata

LONG = "llama-long"  # llama with a context of 512 tokens
SEVERAL_CACHES = ("llama", "gemma3", LONG)  # the others' kernels for them would be the same
VOCAB = len(byte_metadata()["tokenizer.ggml.tokens"])


@cache
def _folder() -> Path:
    """One for all processes of a test run. It goes with the last of them."""
    folder = Path(tempfile.gettempdir()) / f"edgert-small-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    folder.mkdir(exist_ok=True)
    mine = folder / f"used-by-{os.getpid()}"
    mine.touch()

    def leave() -> None:
        mine.unlink(missing_ok=True)
        if not any(folder.glob("used-by-*")):
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(leave)
    return folder


def _made(name: str, make: Callable[[Path], object]) -> Path:
    """The file of this name, made by whichever process comes first; others wait for it."""
    path = _folder() / name
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path


def small(case: str) -> Small:
    """The family as tests/decoder has it, with a byte tokenizer's vocabulary and heads as wide as a block of the cache.

    What was turned whole is so again."""
    family = replace(CASES["llama"], context=512) if case == LONG else CASES[case]
    head = max(32, family.head)
    return replace(family, vocab=VOCAB, head=head, rotated=head if family.rotated == family.head else family.rotated)


@cache
def gguf(case: str = "llama") -> Path:
    """The model as a GGUF file."""
    return _made(f"{case}.gguf", lambda path: write(path, small(case), keys=byte_metadata()))


@cache
def artifact(case: str = "llama") -> Path:
    """The model compiled for this machine; of all but SEVERAL_CACHES with a cache in float16 alone."""
    return _made(f"{case}.edge", lambda path: _compile(gguf(case), path, case in SEVERAL_CACHES))


def _compile(model: Path, path: Path, caches: bool) -> None:
    if caches:
        edgert.compile(model, path, golden=False)
        return
    target = get_target("host")
    tiles = Tuner(target, 0, Records(target), None)
    done, more = compile_decoder(model, target, tiles=tiles, caches=(), golden=False)
    write_artifact(path, done.manifest, done.code, done.weights(), more=more)
