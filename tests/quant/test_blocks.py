"""Codes and scales of blocks of weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.blocks import per_column, quantize_blocks

RNG = np.random.default_rng(1)


def plain(weight: np.ndarray, group: int) -> np.ndarray:
    """Rounded with the widest range: what a search must not be worse than."""
    result = np.empty_like(weight)
    for start in range(0, len(weight), group):
        rows = weight[start : start + group]
        scale = np.maximum(np.abs(rows).max(axis=0) / np.float32(7), np.float32(1e-30))
        result[start : start + group] = np.rint(rows / scale) * scale
    return result


@settings(deadline=None, max_examples=30)
@given(
    k=st.integers(1, 100),
    n=st.integers(1, 9),
    group=st.sampled_from([16, 32, 64]),
    symmetric=st.booleans(),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_codes_fit_and_error_is_within_a_step(
    k: int, n: int, group: int, symmetric: bool, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((k, n)) * size).astype(np.float32)
    blocks = quantize_blocks(weight, group, symmetric)
    low, high = (-8, 7) if symmetric else (0, 15)
    assert blocks.codes.shape == weight.shape and blocks.codes.min() >= low and blocks.codes.max() <= high
    assert blocks.scales.shape == (-(-k // group), n) and (blocks.scales > 0).all()
    if blocks.zeros is not None:
        assert blocks.zeros.max() <= 15
    # Steps are at most a seventh of the largest weight (all codes used), clipped weights lose at most 1 - 7/10 of it.
    assert np.abs(blocks.decode() - weight).max() <= 0.31 * np.abs(weight).max()


def test_search_beats_the_widest_range() -> None:
    weight = RNG.standard_normal((256, 64)).astype(np.float32)
    error = np.square(quantize_blocks(weight, 32).decode() - weight).sum()
    assert error < 0.9 * np.square(plain(weight, 32) - weight).sum()


def test_importance_is_heeded() -> None:
    weight = RNG.standard_normal((32, 64)).astype(np.float32)
    care = np.where(np.arange(32) < 4, 1000.0, 1.0).astype(np.float32)

    def error(importance: np.ndarray | None) -> float:
        return float(np.square(quantize_blocks(weight, 32, True, importance).decode() - weight)[:4].sum())

    assert error(care) < 0.8 * error(None)


@pytest.mark.parametrize("symmetric", [True, False])
def test_zeros_and_denormals_are_harmless(symmetric: bool) -> None:
    weight = np.zeros((64, 3), np.float32)
    weight[:32, 1] = 1e-42
    weight[32:, 2] = 5
    blocks = quantize_blocks(weight, 32, symmetric)
    assert np.isfinite(blocks.scales).all() and (blocks.scales > 0).all()
    np.testing.assert_allclose(blocks.decode(), weight, rtol=1e-6, atol=1e-36)


def test_columns_keep_their_extremes() -> None:
    weight = RNG.standard_normal((50, 8)).astype(np.float32)
    weight[:, 3] = 0
    codes, scales = per_column(weight)
    assert scales[3] == 1 and not codes[:, 3].any()
    assert (np.abs(codes).max(axis=0)[[0, 1, 2, 4, 5, 6, 7]] == 127).all()
    assert (np.abs(codes * scales - weight) <= scales / 2 * 1.0001).all()
