"""A histogram whose range grows with what it is fed: one pass, bounded memory, the same for any order of samples."""

from __future__ import annotations

import numpy as np

# Bins on each side of zero. The range is a power of two, at most twice the largest magnitude, so that a bin is at
# most 1/1024 of it: a quarter of an 8-bit step over the same range.
HALF = 2048
SMALLEST = 2.0**-100  # all below counts as next to zero; HALF / limit stays a float32 number


class Histogram:
    """Counts in 2 * HALF equal bins over [-limit, limit); `low` and `high` are the exact extremes."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 * HALF, np.int64)
        self.limit = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count all elements."""
        values = values.ravel()
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        top = max(-low, high)
        if self.limit <= top:
            self._grow(2.0 ** (np.floor(np.log2(max(top, SMALLEST))) + 1))
        places = (values * np.float32(HALF / self.limit)).astype(np.float32)
        np.floor(places, out=places)
        places += HALF
        np.clip(places, 0, 2 * HALF - 1, out=places)
        self.counts += np.bincount(places.astype(np.int32), minlength=2 * HALF)

    def _grow(self, limit: float) -> None:
        while self.limit and self.limit < limit:
            inner = self.counts.reshape(-1, 2).sum(axis=1)
            if self.limit * 2.0**12 <= limit:  # everything so far falls into the two bins beside zero
                inner = np.zeros(HALF, np.int64)
                inner[HALF // 2 - 1 : HALF // 2 + 1] = self.counts[:HALF].sum(), self.counts[HALF:].sum()
                self.limit = limit / 2
            self.counts[:] = 0
            self.counts[HALF // 2 : HALF // 2 + HALF] = inner
            self.limit *= 2
        self.limit = limit

    @property
    def edges(self) -> np.ndarray:
        """The 2 * HALF + 1 bin edges, float64."""
        return np.linspace(-self.limit, self.limit, 2 * HALF + 1)

    @property
    def centres(self) -> np.ndarray:
        """The middles of the bins; values are taken to lie there. Zeros make a bin of their own, [0, width)."""
        edges = self.edges
        return np.clip((edges[:-1] + edges[1:]) / 2, self.low, self.high)
