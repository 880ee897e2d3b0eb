"""k-means on weights: tables of 16 values, each shared by rows of like distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEVELS = 16
_TURNS = 8  # of fitting tables to rows and moving rows between tables; little changes after a few
_LLOYD = 12  # Lloyd's iterations a turn
_SKETCH = 48  # a row's quantiles that stand for it where only its distribution matters


@dataclass(frozen=True)
class Codebooks:
    """Rows [N, K] as `codes` uint8 [N, K] into each row's table: `tables` float32 [C, 16], ascending, `book` [N]."""

    codes: np.ndarray
    book: np.ndarray
    tables: np.ndarray

    def decode(self) -> np.ndarray:
        """float32 [N, K]."""
        return self.tables[self.book[:, None], self.codes]


def fit(rows: np.ndarray, count: int, rng: np.random.Generator) -> Codebooks:
    """At most `count` tables for float32 `rows` [N, K], for a small squared error in all."""
    rows = np.ascontiguousarray(rows, np.float32)
    sketch = np.quantile(rows, np.linspace(0, 1, _SKETCH), axis=1).T.astype(np.float32)
    book = _alike(sketch, count, rng)
    tables = np.stack([_quantiles(rows[book == b]) for b in range(book.max() + 1)])
    for turn in range(_TURNS):
        tables = np.stack([_lloyd(rows[book == b], table) for b, table in enumerate(tables)])
        if turn == _TURNS - 1 or len(tables) == 1:
            break
        errors = np.stack([((sketch - table[nearest(sketch, table)]) ** 2).sum(axis=1) for table in tables])
        book = errors.argmin(axis=0)
    codes = np.empty(rows.shape, np.uint8)
    for b, table in enumerate(tables):
        codes[book == b] = nearest(rows[book == b], table)
    return Codebooks(codes, book, tables)


def nearest(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The index of the ascending table's value nearest to each, uint8."""
    return np.searchsorted((table[1:] + table[:-1]) / 2, values).astype(np.uint8)


def _lloyd(rows: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The table moved to the means of what is nearest to each of its values; a value nothing is near to stays."""
    values = np.sort(rows, axis=None)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    for _ in range(_LLOYD if values.size else 0):
        cuts = np.searchsorted(values, (table[1:] + table[:-1]) / 2)
        edges = np.concatenate([[0], cuts, [values.size]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        table = np.sort(np.where(counts > 0, means, table)).astype(np.float32)
    return table


def _quantiles(rows: np.ndarray) -> np.ndarray:
    """A start for Lloyd's iterations: evenly spaced between the values' outermost thousandths."""
    values = rows.ravel()
    if not values.size:
        return np.linspace(-2, 2, _LEVELS, dtype=np.float32)
    low, high = np.quantile(values, [0.001, 0.999])
    return np.linspace(low, high, _LEVELS).astype(np.float32)


def _alike(shapes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows sorted into at most `count` groups by k-means on their quantiles [N, any]: the group of each, [N]."""
    count = min(count, len(shapes))
    centres = shapes[rng.choice(len(shapes), count, replace=False)]
    group = np.zeros(len(shapes), np.int64)
    for _ in range(10):
        group = ((centres**2).sum(axis=1) - 2 * shapes @ centres.T).argmin(axis=1)
        for g in range(count):
            if (group == g).any():
                centres[g] = shapes[group == g].mean(axis=0)
    return np.unique(group, return_inverse=True)[1].reshape(-1)
