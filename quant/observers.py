"""Observers: what a tensor's range is, from all the values seen. Each sees one sample at a time and keeps no sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from quant.affine import Range
from quant.histogram import Histogram

# Width in bins of the window that the entropy observer's distribution is smoothed with.
SMOOTH = 33


class Observer(Protocol):
    """Sees a tensor's values sample by sample (in order), then tells its range."""

    def add(self, values: np.ndarray) -> None:
        """See one sample's float values; there is at least one."""

    def range(self, levels: int, symmetric: bool) -> Range:
        """The range for `levels` codes, about zero if `symmetric`."""


class MinMax:
    """The extremes of everything seen."""

    def __init__(self) -> None:
        self.found = Range(np.inf, -np.inf)

    def add(self, values: np.ndarray) -> None:
        """Widen the range to hold these values."""
        self.found = self.found.union(Range(float(values.min()), float(values.max())))

    def range(self, levels: int, symmetric: bool) -> Range:
        """What was seen, whatever the format."""
        return self.found


class MovingAverage:
    """The mean of each sample's extremes, later samples counting more: 0.9 of the past and 0.1 of the newest."""

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.found: Range | None = None

    def add(self, values: np.ndarray) -> None:
        """Move the mean towards this sample's extremes."""
        new = Range(float(values.min()), float(values.max()))
        old, m = self.found, self.momentum
        self.found = Range(m * old.low + (1 - m) * new.low, m * old.high + (1 - m) * new.high) if old else new

    def range(self, levels: int, symmetric: bool) -> Range:
        """The mean so far, whatever the format."""
        assert self.found is not None
        return self.found


class Percentile(Histogram):
    """The range that holds `percent` of all values, what is left cut evenly off both ends."""

    def __init__(self, percent: float = 99.99) -> None:
        super().__init__()
        self.percent = percent

    def range(self, levels: int, symmetric: bool) -> Range:
        """The two quantiles, to a bin's width."""
        share = np.cumsum(self.counts) / self.counts.sum()
        tail = (1 - self.percent / 100) / 2
        low = self.edges[np.searchsorted(share, tail, side="right")]
        high = self.edges[1 + np.searchsorted(share, 1 - tail)]
        return Range(max(self.low, float(low)), min(self.high, float(high)))


class MeanSquaredError(Histogram):
    """The range with the least mean squared error of the quantized values, by search over both ends."""

    def range(self, levels: int, symmetric: bool) -> Range:
        """The best of a grid over both ends (a share of each extreme), then of a finer one about it."""
        used = self.counts > 0
        values, counts = self.centres[used], self.counts[used].astype(np.float64)
        low, high = min(0.0, self.low), max(0.0, self.high)
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        best = _error(values, counts, low, high, levels), 1.0, 1.0
        for near in (np.linspace(-0.95, 0, 20), np.linspace(-0.04, 0.04, 9)):
            ends = [np.unique(np.clip(centre + near, 0.01, 1)) for centre in best[1:]]
            if symmetric or low == 0 or high == 0:
                tries = [(x, x) for x in ends[0] if low < 0] or [(1.0, x) for x in ends[1]]
            else:
                tries = [(x, y) for x in ends[0] for y in ends[1]]
            best = min([best, *((_error(values, counts, x * low, y * high, levels), x, y) for x, y in tries)])
        return Range(best[1] * low, best[2] * high)


def _error(values: np.ndarray, counts: np.ndarray, low: float, high: float, levels: int) -> float:
    step = (high - low) / (levels - 1)
    if step <= 0:
        return float(counts @ values**2)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(values / step) + zero, 0, levels - 1)
    return float(counts @ ((codes - zero) * step - values) ** 2)


class Entropy(Histogram):
    """The range whose quantized distribution is nearest to the real one by Kullback-Leibler divergence.

    Migacz, "8-bit inference with TensorRT" (2017): magnitudes beyond a threshold are counted at it, the rest is merged
    into as many bins as there are codes on that side; tried for 128 thresholds.
    """

    def range(self, levels: int, symmetric: bool) -> Range:
        """The best threshold, used on both sides and cut to the extremes."""
        half = len(self.counts) // 2
        both = self.counts[half:] + self.counts[:half][::-1]
        both[0] = both[1]  # exact zeros (after a Relu, most values) cost nothing and would outweigh all else
        if not both.any():  # next to nothing but zeros
            return Range(self.low, self.high)
        both = np.convolve(both, np.ones(SMOOTH) / SMOOTH, "same")  # few samples make noise, which merging would "lose"
        signed = self.low < 0
        codes = levels // 2 if signed else levels
        last = int(np.nonzero(both)[0][-1]) + 1
        if last <= codes:  # no more bins than codes: nothing to merge
            return Range(self.low, self.high)
        ends = np.unique(np.linspace(codes, last, 128).astype(int))
        scores = [_divergence(both, int(end), codes) for end in ends]
        top = self.limit * ends[int(np.argmin(scores))] / half
        return Range(max(self.low, -top), min(self.high, top))


def _divergence(counts: np.ndarray, end: int, codes: int) -> float:
    inside = counts[:end].astype(np.float64)
    real = inside.copy()
    real[-1] += counts[end:].sum()
    group = np.arange(end) * codes // end
    filled = inside > 0
    mean = np.bincount(group, inside, codes) / np.maximum(np.bincount(group, filled, codes), 1)
    coded = np.where(filled, mean[group], 0)
    if not coded.sum():
        return np.inf
    p, q = real / real.sum(), coded / coded.sum()
    here = p > 0
    return float((p[here] * np.log(p[here] / np.maximum(q[here], 1e-12))).sum())


# By name; each is made anew for every tensor, from the options' percentile.
OBSERVERS: dict[str, Callable[[float], Observer]] = {
    "minmax": lambda percent: MinMax(),
    "moving-average": lambda percent: MovingAverage(),
    "percentile": Percentile,
    "entropy": lambda percent: Entropy(),
    "mse": lambda percent: MeanSquaredError(),
}
