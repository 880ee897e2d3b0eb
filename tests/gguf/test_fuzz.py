"""Damaged language models as they come: whatever became of the file, a model or one clear error, in bounded time and
memory. EDGERT_FUZZ_SECONDS=60 goes on for so long, from another seed every time (`make fuzz`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compiler.decoder import open_gguf
from compiler.decoder.graph import to_graph
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf
from targets.errors import EdgertError
from tests.gguf.test_hostile import bounded
from tests.llm.small_models import gguf

SECONDS = float(os.environ.get("EDGERT_FUZZ_SECONDS", "2"))
FIRST = time.time_ns() // 10**6 % 2**31 if "EDGERT_FUZZ_SECONDS" in os.environ else 0
MOST_MEMORY = 32 << 20  # the files have 200 KB; a graph with its metadata takes some MB
MOST_SECONDS = 10.0  # for one file, on a machine that does other things; a right one takes a hundredth
ODD = (0, 1, 2**31, 2**32 - 1, 1 << 60, 2**63, 2**64 - 1)

Random = np.random.Generator


def _bytes(data: bytearray, rng: Random, header: int) -> None:
    for at in rng.integers(0, header, rng.integers(1, 8)):
        data[at] = rng.integers(256)


def _number(data: bytearray, rng: Random, header: int) -> None:
    at, size = rng.integers(0, header - 8), rng.choice((1, 4, 8))
    data[at : at + size] = int(ODD[rng.integers(len(ODD))]).to_bytes(8, "little")[:size]


def _cut(data: bytearray, rng: Random, header: int) -> None:
    del data[rng.integers(0, len(data)) :]


def _drop(data: bytearray, rng: Random, header: int) -> None:
    at = rng.integers(0, header)
    del data[at : at + rng.integers(1, 64)]


def _again(data: bytearray, rng: Random, header: int) -> None:
    at, to, size = *rng.integers(0, header, 2), rng.integers(1, 64)
    data[to : to + size] = data[at : at + size]


CHANGES: tuple[Callable[[bytearray, Random, int], None], ...] = (_bytes, _number, _number, _cut, _drop, _again)


@pytest.mark.parametrize("case", ["llama", "gemma3", "phi3"])
def test_a_model_or_one_error(case: str, tmp_path: Path) -> None:
    right = gguf(case).read_bytes()
    header = right.rindex(b".weight") + 32
    path, end, seed = tmp_path / "fuzzed.gguf", time.monotonic() + SECONDS / 3, FIRST
    while time.monotonic() < end:
        seed += 1
        rng, data = np.random.default_rng(seed), bytearray(right)
        for _ in range(rng.integers(1, 4)):
            CHANGES[rng.integers(len(CHANGES))](data, rng, min(header, max(9, len(data))))
        path.write_bytes(data)
        begin = time.monotonic()
        try:
            bounded(path, _opened, MOST_MEMORY)
        except EdgertError as error:
            assert str(error).strip() and "\x1b" not in str(error), f"{case}, seed {seed}"
        except BaseException as error:
            error.add_note(f"{case}, seed {seed}")
            raise
        assert time.monotonic() - begin < MOST_SECONDS, f"{case}, seed {seed}"


def _opened(path: Path) -> None:
    """As compiling begins."""
    opened = open_gguf(path, context=64)
    tokenizer_from_gguf(opened.metadata)
    to_graph(opened.decoder, opened.weights, 64)
