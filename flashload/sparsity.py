"""Which neurons of a feed-forward layer a token needs, and what reading only those costs: the parts of a sparse mode.

A neuron is a row of the gate and up projections and a column of the down projection. What it adds to the result is
|silu(gate) * up| times the length of its column; those below a threshold are left out (training-free, as TEAL, Liu et
al. 2025, and CATS, Lee et al. 2024). To read fewer bytes, the ones that count must be known before the rows are read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np


def thresholds(scores: np.ndarray, sparsity: float) -> float:
    """The score below which a share `sparsity` falls; scores: [tokens, neurons], of one layer."""
    return float(np.quantile(scores, sparsity))


def limits_of(sizes: np.ndarray, lengths: np.ndarray, share: float, hot: float = 0.0) -> np.ndarray:
    """What |activation(gate) * up| must be above for a neuron to count, float32 [neurons].

    sizes: of it in calibration, [tokens, neurons]; lengths: of the neurons' columns. So many of all are left out:
    of the share `hot` of neurons with the largest parts on average none (limits of -1), of the others the more.
    """
    scores = sizes.astype(np.float32) * lengths
    cold = np.ones(len(lengths), bool)
    cold[np.argsort(-scores.mean(0), kind="stable")[: round(hot * len(lengths))]] = False
    if share <= 0:  # exact: only what adds nothing
        return np.zeros(len(lengths), np.float32)
    limit = np.quantile(scores[:, cold], min(1.0, share / cold.mean())) if cold.any() else 0
    limits = limit / np.maximum(lengths, np.finfo(np.float32).tiny)
    return np.where(cold, np.minimum(limits, np.finfo(np.float32).max), -1).astype(np.float32)


@dataclass(frozen=True)
class LowRank:
    """Predicts products with a matrix in fewer multiplications: x @ first @ second; [in, rank] and [rank, out]."""

    first: np.ndarray
    second: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x: [tokens, in] -> [tokens, out]."""
        return x @ self.first @ self.second


def fit(x: np.ndarray, weight: np.ndarray, rank: int) -> LowRank:
    """The best of that rank on activations x [tokens, in], for weight [out, in] (reduced-rank regression)."""
    values, basis = np.linalg.eigh(x.T @ x)
    root = basis * np.sqrt(np.maximum(values, 0)) @ basis.T
    products = root @ weight.T  # has the singular vectors of x @ weight.T, and fewer rows
    _, left = np.linalg.eigh(products @ products.T)
    kept, _ = np.linalg.qr(products.T @ left[:, -rank:])
    return LowRank(weight.T @ kept, np.ascontiguousarray(kept.T))


@dataclass(frozen=True)
class Traffic:
    """Of one token in one layer, on average: neurons used, neurons read, reads, neurons held in memory at most."""

    used: float
    read: float
    reads: float
    held: int


def traffic(active: np.ndarray, window: int, bundled: bool) -> Traffic:
    """What reading costs as tokens follow one another; active: bool [tokens, neurons].

    window: neurons used by so many tokens before are still in memory (windowing). bundled: the three parts of a neuron
    lie together and neighbours are read at once; otherwise each of its three matrices is read by itself, and a column
    of the down projection, which does not lie in one piece unless it is stored transposed, as one read too.
    """
    recent: deque[np.ndarray] = deque(maxlen=max(1, window))
    read = reads = held = 0
    for now in active:
        there = np.any(recent, axis=0) if window and recent else np.zeros_like(now)
        fresh = now & ~there
        runs = int(np.count_nonzero(fresh[1:] & ~fresh[:-1]) + fresh[0])
        read += int(fresh.sum())
        reads += runs if bundled else 3 * runs
        recent.append(now)
        held = max(held, int(np.any(recent, axis=0).sum()))
    count = len(active)
    return Traffic(float(active.sum() / count), read / count, reads / count, held)
