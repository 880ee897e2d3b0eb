"""The compiled engine: the contract of engines, for every architecture, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgert import cpu
from edgert.errors import DoesNotFit, UsageError
from edgert.llm.engine import CachedEngine, open_engine
from edgert.llm.text_model import open_text_model
from tests.decoder.small import CASES
from tests.llm.engine_contract import check_engine
from tests.llm.small_models import artifact

CASES_FAST_FIRST = ["llama", *(pytest.param(case, marks=pytest.mark.slow) for case in CASES if case != "llama")]


@pytest.fixture
def engine() -> CachedEngine:
    return open_engine(artifact(), threads=1)


@pytest.mark.parametrize("case", CASES_FAST_FIRST)
def test_contract(case: str) -> None:
    # Kernels for one row and for many add in different orders (1e-6 of logits near 1), and so, seldom, a number at a
    # tie rounds to the other of two 8-bit codes: a block's largest / 127, of which two or more layers leave a few 1e-2
    check_engine(lambda: open_engine(artifact(case), threads=1), tolerance=1e-5 if case == "llama" else 5e-2)


def test_threads_change_nothing(engine: CachedEngine) -> None:
    ids = np.random.default_rng(1).integers(0, engine.vocab, 40)
    np.testing.assert_allclose(open_engine(artifact(), threads=2).score(ids), engine.score(ids), rtol=0, atol=1e-5)


def test_a_prompt_in_chunks_is_the_whole(engine: CachedEngine) -> None:
    ids = np.random.default_rng(2).integers(0, engine.vocab, engine.context)
    engine.chunk = 7
    pieces = engine.prefill(ids).copy()
    larger = open_engine(artifact(), threads=1)
    larger.chunk = 24
    np.testing.assert_allclose(pieces, larger.prefill(ids), rtol=0, atol=5e-2)  # codes at ties, as above
    whole = open_engine(artifact(), threads=1).prefill(ids)
    # with AMX in bfloat16: other roundings, each of which costs 1 to 3 % (test_engine_reference.py)
    assert (pieces - whole).std() < 0.05 * whole.std()


def test_a_smaller_context_is_smaller(engine: CachedEngine) -> None:
    small = open_engine(artifact(), threads=1, context=16)
    assert small.cache_bytes == engine.cache_bytes * 16 // engine.context
    with pytest.raises(DoesNotFit, match="17 tokens do not fit a context of 16"):
        small.prefill(range(17))
    assert small.position == 0


@pytest.mark.parametrize("context", [0, -1, 65])
def test_a_context_it_was_not_made_for(context: int) -> None:
    with pytest.raises(UsageError, match=f"context of {context} tokens: this artifact takes 1 to 64"):
        open_engine(artifact(), context=context)


def test_a_cache_that_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_text_model(artifact())
    monkeypatch.setattr(cpu, "available_memory", lambda: 1000)
    with pytest.raises(DoesNotFit, match=r"64 tokens needs \d+ bytes .* free are 1000"):
        model.engine()


def test_wrong_calls(engine: CachedEngine) -> None:
    with pytest.raises(UsageError, match="at least one token"):
        engine.prefill([])
    with pytest.raises(UsageError, match="not tokens of the last verify"):
        engine.commit([0])
    with pytest.raises(UsageError, match="position 3"):
        engine.reset(3)
    with pytest.raises(UsageError, match="at most 5 at once"):
        engine.wanted = 5
        engine.verify(range(6))
    assert engine.position == 0


def test_an_artifact_that_is_no_language_model(fake_artifact: Path) -> None:
    with pytest.raises(UsageError, match="is not a language model"):
        open_engine(fake_artifact)


@pytest.fixture
def fake_artifact(tmp_path: Path) -> Path:
    from tests.edgert import fake_artifact as fake

    fake.make_artifact(tmp_path / "fake.edge", fake.compile_code(tmp_path))
    return tmp_path / "fake.edge"
