"""Observers against exact computations on all values at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.affine import LIMITS, Range, affine, best_channel_scales, channel_scales, encode, encode_channels
from quant.histogram import HALF, Histogram
from quant.observers import OBSERVERS, MovingAverage


def observed(name: str, parts: list[np.ndarray], percent: float = 99.99, symmetric: bool = False) -> Range:
    observer = OBSERVERS[name](percent)
    for part in parts:
        observer.add(part)
    return observer.range(256, symmetric)


def split(values: np.ndarray, count: int = 7) -> list[np.ndarray]:
    return np.array_split(values.astype(np.float32), count)


def error(values: np.ndarray, found: Range) -> float:
    scale, zero = affine(found, "uint8", False)
    return float((((encode(values, scale, zero, "uint8").astype(float) - zero) * scale - values) ** 2).mean())


RNG = np.random.default_rng(0)
SHAPES = {
    "normal": RNG.standard_normal(20000),
    "relu": np.maximum(RNG.standard_normal(20000), 0),
    "long tail": RNG.standard_t(3, 20000),
    "below zero": -np.abs(RNG.standard_normal(20000)),
    "tiny": RNG.standard_normal(20000) * 1e-20,
    "huge": RNG.standard_normal(20000) * 1e20,
    "one outlier": np.append(RNG.standard_normal(20000), 1000),
}


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_range_lies_within_what_was_seen(name: str, values: np.ndarray, symmetric: bool) -> None:
    low, high = observed(name, split(values), symmetric=symmetric)
    top = np.abs(values.astype(np.float32)).max()
    assert low <= high
    if symmetric:
        assert -top <= low and high <= top
    else:
        assert min(values.astype(np.float32).min(), 0) <= low and high <= max(values.astype(np.float32).max(), 0)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
@pytest.mark.parametrize("name", OBSERVERS)
def test_a_value_that_never_changes_lies_within_its_range(name: str, value: float) -> None:
    found = observed(name, [np.full(100, value, np.float32)])
    assert min(found.low, 0) <= value <= max(found.high, 0)
    assert np.isfinite([found.low, found.high]).all()


def test_minmax_is_exact_and_moving_average_as_defined() -> None:
    parts = split(SHAPES["normal"])
    assert observed("minmax", parts) == (min(p.min() for p in parts), max(p.max() for p in parts))
    slow = MovingAverage(0.5)
    for part in ([0, 8], [0, 4], [-2, 2]):
        slow.add(np.array(part, np.float32))
    assert slow.range(256, False) == (-1, 4)


@pytest.mark.parametrize("percent", [90.0, 99.0, 100.0])
@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_percentile_is_the_quantile_to_a_bin(values: np.ndarray, percent: float) -> None:
    low, high = observed("percentile", split(values), percent)
    tail = (1 - percent / 100) / 2
    exact = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    width = 2 * np.abs(values).max() / HALF  # the range of the bins is less than twice the largest magnitude
    assert np.abs(np.array([low, high]) - exact).max() <= width


@pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)
def test_mse_is_not_beaten_by_shrunk_extremes(values: np.ndarray) -> None:
    parts = split(values)
    got = error(values, observed("mse", parts))
    low, high = observed("minmax", parts)
    # bins stand for their middles, and the search ends on a grid: near the least error, not at it
    assert got <= 1.1 * min(error(values, Range(low * share, high * share)) for share in np.linspace(0.05, 1, 96))


def test_entropy_cuts_an_outlier_and_keeps_a_plain_range() -> None:
    cut = observed("entropy", split(SHAPES["one outlier"]))
    assert cut.high < 500
    flat = observed("entropy", split(RNG.uniform(0, 1, 50000)))
    assert flat.high > 0.95  # nothing of an even distribution can go


# Beyond these, the product with the bins' density leaves float32.
PLAIN = st.floats(-(2.0**80), 2.0**80, width=32).filter(lambda value: value == 0 or abs(value) > 2.0**-40)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(PLAIN, min_size=1, max_size=20), min_size=1, max_size=6))
def test_histogram_is_the_same_for_any_order(parts: list[list[float]]) -> None:
    arrays = [np.array(part, np.float32) for part in parts]
    one, other = Histogram(), Histogram()
    for array in arrays:
        one.add(array)
    for array in reversed(arrays):
        other.add(array)
    assert one.counts.sum() == other.counts.sum() == sum(map(len, arrays))
    assert (one.low, one.high, one.limit) == (other.low, other.high, other.limit)
    assert np.array_equal(one.counts, other.counts)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.sampled_from(sorted(LIMITS)),
    st.booleans(),
)
def test_zero_is_exact_and_the_ends_are_reached(a: float, b: float, dtype: str, symmetric: bool) -> None:
    low, high = sorted((a, b))
    symmetric = symmetric and dtype.startswith("int")
    scale, zero = affine(Range(low, high), dtype, symmetric)
    assert np.isfinite(scale) and scale > 0 and LIMITS[dtype][0] <= zero <= LIMITS[dtype][1]
    ends = np.array([0, min(low, 0), max(high, 0)], np.float32)
    back = (encode(ends, scale, zero, dtype).astype(np.float64) - zero) * scale
    assert back[0] == 0
    assert np.abs(back - ends).max() <= 1.01 * scale  # half a step for the ends, half for the zero point


def test_weights_per_channel() -> None:
    weights = RNG.standard_normal((6, 3, 3, 3)).astype(np.float32)
    weights[2] = 0
    weights[3] *= 1e-30
    weights[4] = 0.25
    plain_scales = channel_scales(weights, 0)
    for scales in (plain_scales, best_channel_scales(weights, 0)):
        codes = encode_channels(weights, scales, 0)
        assert scales[2] == 1 and not codes[2].any() and codes.min() >= -127
        back = codes * scales[:, None, None, None]
        share = 0.501 if scales is plain_scales else 32  # 0.8 of the plain scale cuts off a quarter of 127 steps
        worst = np.abs(back - weights).max((1, 2, 3))
        assert (worst <= share * scales).all()
        assert np.allclose(back[4], 0.25, rtol=0.01)
    plain, best = (
        ((encode_channels(weights, s, 0) * s[:, None, None, None] - weights) ** 2).sum((1, 2, 3))
        for s in (plain_scales, best_channel_scales(weights, 0))
    )
    assert (best <= plain).all() and best[0] < plain[0]
