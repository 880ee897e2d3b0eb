"""The parts of a sparse mode: thresholds, predictors, what windows and bundles save."""

from __future__ import annotations

import numpy as np
import pytest

from flashload import sparsity


def test_a_threshold_leaves_out_the_share_asked_for() -> None:
    scores = np.random.default_rng(0).exponential(size=(200, 64))
    for share in (0.0, 0.3, 0.5, 0.9):
        assert np.mean(scores < sparsity.thresholds(scores, share)) == pytest.approx(share, abs=1e-3)


def test_skipping_what_relu_makes_zero_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    x, up, down = rng.normal(size=(9, 32)), rng.normal(size=(80, 32)), rng.normal(size=(32, 80))
    hidden = np.maximum(x @ up.T, 0)
    for row in hidden:
        active = row > 0
        np.testing.assert_allclose(down[:, active] @ row[active], down @ row, rtol=0, atol=1e-12)  # sums of 80
    assert 0.3 < np.mean(hidden == 0) < 0.7


def test_a_low_rank_predictor_is_exact_where_the_activations_have_that_rank() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 40))
    weight = rng.normal(size=(70, 40))
    predicted = sparsity.fit(x, weight, 6)
    np.testing.assert_allclose(predicted(x), x @ weight.T, atol=1e-9 * np.abs(x @ weight.T).max())
    errors = [np.linalg.norm(sparsity.fit(x, weight, rank)(x) - x @ weight.T) for rank in (1, 3, 5)]
    assert errors == sorted(errors, reverse=True)


def test_windows_and_bundles_save_reads() -> None:
    active = np.zeros((4, 8), bool)
    active[0, [0, 1, 5]] = active[1, [1, 2, 5]] = active[2, [0, 1, 5]] = active[3, [7]] = True
    plain = sparsity.traffic(active, 0, bundled=False)
    assert (plain.used, plain.read, plain.reads) == (10 / 4, 10 / 4, 3 * (2 + 2 + 2 + 1) / 4)
    bundled = sparsity.traffic(active, 0, bundled=True)
    assert bundled.reads == plain.reads / 3
    one = sparsity.traffic(active, 1, bundled=True)
    assert one.read == (3 + 1 + 1 + 1) / 4
    two = sparsity.traffic(active, 2, bundled=True)
    assert two.read == (3 + 1 + 0 + 1) / 4
    assert two.held == 4
