"""What the artifact says that runs touch of the arena is all that they touch."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import runner
from edgert.llm.engine import CachedEngine
from flashload.layout import PAGE
from tests.flashload.networks import WIDTH, decoder, mlp
from tests.llm.small_models import VOCAB

FILLED = 0xA5


def filled(model: runner.Model) -> np.ndarray:
    """The model's arena as bytes, all of them FILLED."""
    kind = ctypes.c_uint8 * model.arena_bytes
    arena = np.frombuffer(kind.from_address(model._arena_at), np.uint8)
    arena[:] = FILLED
    return arena


def touched(arena: np.ndarray) -> int:
    """Bytes of pages that were written since."""
    pages = np.pad(arena, (0, -len(arena) % PAGE), constant_values=FILLED).reshape(-1, PAGE)
    return PAGE * int((pages != FILLED).any(axis=1).sum())


def stated(path: Path, n: int, m: int = 1) -> int:
    stream = edgert.load(path).artifact.spec.stream
    assert stream is not None
    return next(size for most, second, size in stream.arena if n <= most and m <= second)


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_rows_of_a_network(batch: int) -> None:
    with edgert.load(mlp(), 1) as model:
        arena = filled(model)
        model.run({"x": np.random.default_rng(batch).normal(size=(batch, WIDTH)).astype(np.float32)})
        assert 0 < touched(arena) <= stated(mlp(), batch)
    assert stated(mlp(), 1) < stated(mlp(), 40)


@pytest.mark.parametrize("tokens", [1, 3, 16])
def test_tokens_of_a_language_model(tokens: int) -> None:
    with edgert.load(decoder(), 1) as model:
        engine, arena = CachedEngine(model, 64), filled(model)
        engine.prefill(np.random.default_rng(tokens).integers(0, VOCAB, tokens))
        assert 0 < touched(arena) <= stated(decoder(), tokens)
    assert stated(decoder(), 1) < stated(decoder(), 16)


def test_rows_that_are_wanted() -> None:
    with edgert.load(decoder(), 1) as model:
        engine, arena = CachedEngine(model, 64), filled(model)
        engine.verify(np.arange(9))
        assert 0 < touched(arena) <= stated(decoder(), 9, 9)
    assert stated(decoder(), 1, 1) < stated(decoder(), 1, 9)
