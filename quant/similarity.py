"""How alike two versions of a tensor are, summed up over samples as they pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Similarity:
    """Running sums over pairs of reference and value; all in float64."""

    signal: float = 0.0  # sum of reference²
    noise: float = 0.0  # sum of (value - reference)²
    power: float = 0.0  # sum of value²
    product: float = 0.0  # sum of reference · value
    low: float = math.inf  # of the reference
    high: float = -math.inf
    cosines: float = 0.0  # sum of the samples' cosines
    samples: int = 0

    def add(self, reference: np.ndarray, value: np.ndarray) -> None:
        """Take in one sample; shapes that differ (an output whose size depends on data) count as nothing in common."""
        one = np.asarray(reference, np.float64).reshape(-1)
        two = np.asarray(value, np.float64).reshape(-1)
        if not one.size and not two.size:
            return
        if one.shape != two.shape:
            two = np.zeros_like(one)
        # Sums, not dot products: BLAS would start threads that fight with ONNX Runtime's for the cores.
        signal, power, product = (float((a * b).sum()) for a, b in ((one, one), (two, two), (one, two)))
        self.signal += signal
        self.power += power
        self.product += product
        self.noise += float(np.square(two - one).sum())
        self.low, self.high = min(self.low, float(one.min())), max(self.high, float(one.max()))
        self.cosines += _cosine(signal, power, product)
        self.samples += 1

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio in dB: 10 log10(sum reference² / sum (value - reference)²)."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 and self.noise < math.inf else -math.inf

    @property
    def cosine(self) -> float:
        """The cosine over all samples as one vector."""
        return _cosine(self.signal, self.power, self.product)

    @property
    def mean_cosine(self) -> float:
        """The mean of the samples' cosines."""
        return self.cosines / self.samples if self.samples else 1.0


def _cosine(signal: float, power: float, product: float) -> float:
    if signal == 0 or power == 0:
        return 1.0 if signal == power else 0.0
    return product / math.sqrt(signal * power) if math.isfinite(power) else 0.0
