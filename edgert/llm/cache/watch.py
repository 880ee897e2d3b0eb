"""Rows that attention looks at, and the others given up: SnapKV (Li et al. 2024, arXiv:2404.14469) within a cache.

The latest queries vote: what their softmax gives a row, summed over them and over the heads that share its keys, and
smoothed over neighbours, so that words stay whole. Each layer and head of keys keeps other rows; keys stay turned as
they were, and the text's positions go on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NEIGHBOURS = 7  # rows that are smoothed over
ALONE = 1 << 18  # multiply-accumulates up to which OpenBLAS wakes no threads, which would fight with the model's


class Watcher:
    """Chooses rows of an engine's cache of float16 with its latest queries."""

    def __init__(self, state: Mapping[str, np.ndarray], layers: int, watches: int) -> None:
        """`watches`: rows whose queries are kept."""
        self._layers = [(state[f"cache.{i}"], state[f"cache.{i}.1"]) for i in range(layers)]
        self._watches = watches

    def keep(self, held: int, first: int, latest: int, count: int) -> None:
        """Of `held` rows keep the first and the latest, and of those between the `count` that get most votes, moved
        together in every layer."""
        for cache, queries in self._layers:
            votes = self.votes(cache[0, 0, :, :held], queries[0, 0], held)[:, first : held - latest]
            best = first + np.sort(np.argpartition(votes, votes.shape[1] - count, 1)[:, votes.shape[1] - count :], 1)
            for group, rows in enumerate(best):
                order = np.r_[0:first, rows, held - latest : held]
                cache[0, :, group, : len(order)] = cache[0, :, group, order].swapaxes(0, 1)

    def votes(self, keys: np.ndarray, queries: np.ndarray, held: int) -> np.ndarray:
        """float32 [groups, rows] from keys [groups, rows, size] and queries [groups, kept * heads of a group, size]."""
        groups, slots, _ = queries.shape
        # the row whose query stands in a slot: one of the latest, as many as were kept
        slot = np.arange(slots) // (slots // self._watches)
        row = held - 1 - (held - 1 - slot) % self._watches
        scores = _products(queries.astype(np.float32), keys.astype(np.float32))
        scores[:, np.arange(held) > row[:, None]] = -np.inf
        scores[:, row < 0] = 0  # there was none yet: the same for all rows
        scores -= scores.max(2, keepdims=True)
        weights = np.exp(scores, out=scores)
        total = (weights / weights.sum(2, keepdims=True)).sum(1)
        padded = np.pad(total, ((0, 0), (NEIGHBOURS // 2, NEIGHBOURS // 2)))
        return np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS, 1).mean(2).reshape(groups, held)


def _products(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """float32 [groups, slots, rows], some rows at a time."""
    groups, slots, size = queries.shape
    rows = keys.shape[1]
    some = max(1, ALONE // (slots * size))
    blocks = -(-rows // some)
    padded = np.zeros((groups, blocks * some, size), np.float32)
    padded[:, :rows] = keys
    each = queries[:, None] @ padded.reshape(groups, blocks, some, size).swapaxes(2, 3)
    return each.swapaxes(1, 2).reshape(groups, slots, -1)[:, :, :rows]
