"""Perplexity's windows, what is scored of them, and the arithmetic, on an engine whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import EdgertError, UsageError
from edgert.llm.perplexity import PIECE, measure, negative_log_likelihood, windows
from tests.llm.fake_engine import FakeEngine


class Spy(FakeEngine):
    """Notes the most tokens it was ever asked about at once, and which were verified."""

    def __init__(self) -> None:
        super().__init__(vocab=50)
        self.most = 0

    def verify(self, ids, parents=None):  # type: ignore[no-untyped-def]
        self.most = max(self.most, len(ids))
        return super().verify(ids, parents)


def by_hand(cut: list[list[int]], every: bool) -> tuple[float, int]:
    """The mean over tokens behind the middle (or behind the first), each window on its own."""
    losses = []
    for window in cut:
        engine = FakeEngine(vocab=50)
        for at in range(len(window) - 1):
            logits = engine.decode(window[at]).astype(np.float64)
            if every or at >= len(window) // 2:
                losses.append(np.log(np.exp(logits).sum()) - logits[window[at + 1]])
    return float(np.exp(np.mean(losses))), len(losses)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("size", [3, 8, 33, 3 * PIECE])
def test_against_the_definition(size: int, every: bool) -> None:
    ids = [int(i) for i in np.random.default_rng(size).integers(0, 50, size * 3 + 2)]
    cut = windows(ids, size, bos=None)
    engine = Spy()
    *_, score = measure(engine, cut, every)
    expected, count = by_hand(cut, every)
    assert score.windows == 3 and score.tokens == count == 3 * (size - 1 if every else size - size // 2 - 1)
    assert score.perplexity == pytest.approx(expected, rel=1e-5)  # float32 terms
    assert engine.most <= PIECE  # what an artifact gives logits for at once


def test_512_tokens_score_255() -> None:
    *_, score = measure(FakeEngine(50), windows(list(range(50)) * 11, 512, None))
    assert (score.windows, score.tokens) == (1, 255)  # as llama.cpp counts


def test_windows_lie_side_by_side_and_begin_with_bos() -> None:
    ids = [9, 1, 2, 3, 4, 5, 6, 7]
    assert windows(ids, 3, bos=None) == [[9, 1, 2], [3, 4, 5]]
    assert windows(ids, 3, bos=9) == [[9, 1, 2], [9, 4, 5]]


@pytest.mark.parametrize(("size", "count", "words"), [(2, 10, "at least 3"), (11, 10, "10 tokens, less than one")])
def test_too_little(size: int, count: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        windows(list(range(count)), size, None)


def test_the_error_of_a_mean() -> None:
    ids = [int(i) for i in np.random.default_rng(0).integers(0, 50, 400)]
    *_, score = measure(FakeEngine(50), windows(ids, 100, None))
    mean, variance = score.nll / score.tokens, score.squares / score.tokens - (score.nll / score.tokens) ** 2
    # The usual rule for a function of a mean: its slope, here the perplexity, times the mean's own error
    assert score.error == pytest.approx(np.exp(mean) * np.sqrt(variance / (score.tokens - 1)))


def test_large_logits_and_certainty() -> None:
    logits = np.array([[1000.0, 0, -1000], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(negative_log_likelihood(logits, [0, 1]), [0, np.log(3)], atol=1e-7)
    assert negative_log_likelihood(logits, [2, 0])[0] == 2000


def test_results_that_are_not_finite() -> None:
    engine = FakeEngine(50)
    engine._table[:] = np.nan
    with pytest.raises(EdgertError, match="not finite"):
        list(measure(engine, [[1, 2, 3, 4]]))
