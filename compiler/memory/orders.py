"""Orders of preference for the exact search: which buffer it tries first among those that could lie equally low."""

from __future__ import annotations

import numpy as np

# Each letter sorts from the largest, the first letter first. Which of them leads to a placement soon differs from
# case to case by orders of magnitude; together they fail rarely.
ORDERS = ("TWA", "WAT", "TAW", "AWT", "SWT")


def orders(spans: np.ndarray) -> list[np.ndarray]:
    """Permutations of `spans` (rows of size, first section, section after the last), one per entry of ORDERS.

    A is area (size x sections), W the number of sections, S the size, T the fullest section that the buffer is in.
    """
    size, first, end = spans.astype(np.int64).T
    load = np.zeros(int(end.max(initial=0)) + 1, np.int64)
    np.add.at(load, first, size)
    np.subtract.at(load, end, size)
    load = np.cumsum(load)
    fullest = np.array([load[a:z].max() for a, z in zip(first, end, strict=True)])
    keys = {"A": size * (end - first), "W": end - first, "S": size, "T": fullest}
    found = [np.lexsort([-keys[letter] for letter in reversed(letters)]) for letters in ORDERS]
    unique = {order.tobytes(): order for order in found}
    return list(unique.values())
