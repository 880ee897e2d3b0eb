"""Rows forgotten by how little they are attended to."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import DoesNotFit, UsageError
from edgert.llm.cache import HeavyHitters, SinksAndWindow
from edgert.llm.cache.watch import NEIGHBOURS, Watcher
from edgert.llm.engine import open_engine
from edgert.llm.text_model import QUERIES
from tests.llm.small_models import LONG, artifact

IDS = np.random.default_rng(6).integers(0, 256, 512).tolist()
RNG = np.random.default_rng(1)


def test_votes_are_attention_smoothed() -> None:
    """Row by row, head by head, as the paper has it."""
    held, watches, each = 75, 8, 2
    keys = RNG.standard_normal((3, held, 16)).astype(np.float32)
    queries = RNG.standard_normal((3, watches * each, 16)).astype(np.float32)
    found = Watcher({}, 0, watches).votes(keys, queries, held)
    for group in range(3):
        total = np.zeros(held)
        for row in range(held - watches, held):
            for head in range(each):
                scores = keys[group, : row + 1] @ queries[group, row % watches * each + head]
                total[: row + 1] += np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        padded = np.pad(total, NEIGHBOURS // 2)
        expected = [padded[i : i + NEIGHBOURS].mean() for i in range(held)]
        np.testing.assert_allclose(found[group], expected, rtol=1e-4)


def test_the_first_the_latest_and_the_likeliest_are_kept() -> None:
    cache = RNG.standard_normal((1, 2, 2, 100, 8)).astype(np.float16)
    cache[0, 1, :, :, 0] = np.arange(100)  # values that say where they stood
    queries = RNG.standard_normal((1, 1, 2, 8, 8)).astype(np.float16)
    watcher = Watcher({"cache.0": cache, "cache.0.1": queries}, 1, 8)
    votes = watcher.votes(cache[0, 0, :, :90], queries[0, 0], 90)[:, 3:82]
    before = cache.copy()
    watcher.keep(90, 3, 8, 20)
    for group in range(2):
        rows = cache[0, 1, group, :31, 0].astype(int)
        assert rows[:3].tolist() == [0, 1, 2] and rows[-8:].tolist() == list(range(82, 90))
        assert sorted(rows) == rows.tolist()
        assert set(rows[3:-8] - 3) == set(np.argsort(votes[group])[-20:])
        np.testing.assert_array_equal(cache[0, :, group, :31], before[0, :, group, rows].swapaxes(0, 1))


def test_a_text_longer_than_the_cache() -> None:
    policy = HeavyHitters(160)
    with (
        open_engine(artifact(LONG), 1, cache=QUERIES, policy=policy) as engine,
        open_engine(artifact(LONG), 1, 160) as plain,  # as many rows: the last are summed in an order of their own
    ):
        assert engine.context == 160 and engine.room == 512
        plain.chunk = engine.chunk
        np.testing.assert_array_equal(engine.prefill(IDS[:160]), plain.prefill(IDS[:160]))  # nothing is forgotten yet
        positions, run = [], engine.model.run
        engine.model.run = lambda given, out: (positions.extend(given["positions"]), run(given, out))[1]  # type: ignore
        engine.prefill(IDS[160:400])
        assert positions == list(range(160, 400))
        assert engine.position + engine.forgotten == 400 and engine.position <= 160 and engine.room == 112
        for token in IDS[:112]:
            assert np.isfinite(engine.decode(token)).all()
        with pytest.raises(DoesNotFit, match="513 tokens do not fit a context of 512"):
            engine.verify(IDS[:1])
        assert engine.reuse(IDS) == policy.sinks and engine.forgotten == 0
        for one in (engine, plain):
            one.reset()
        np.testing.assert_array_equal(engine.prefill(IDS[:100]), plain.prefill(IDS[:100]))


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="give at least 132"):
        HeavyHitters(100)
    with pytest.raises(UsageError, match="a window of 600 needs a context"):
        HeavyHitters(600).rows(512)
    for cache, policy in (("f16", HeavyHitters(160)), (QUERIES, SinksAndWindow(4, 60)), (QUERIES, None)):
        with pytest.raises(UsageError, match="in a cache that keeps queries"):
            open_engine(artifact(LONG), 1, cache=cache, policy=policy)
