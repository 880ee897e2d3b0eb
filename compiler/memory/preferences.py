"""Orders of preference for the exact search: which buffer it tries first among those that could lie equally low."""

from __future__ import annotations

import numpy as np

# Each letter sorts from the largest, the first letter first. Which of them leads to a placement soon differs from
# case to case by orders of magnitude; all of them fail rarely.
PREFERENCES = ("TWA", "AWT", "OAT", "TOA", "BLT", "LBT", "TAW", "SWT")


def preferences(spans: np.ndarray, steps: np.ndarray) -> list[np.ndarray]:
    """Permutations of `spans` (rows of size, first section, section after the last), one per entry of PREFERENCES.

    S is the size, W the number of sections, A size x sections, L the life time in `steps` (one number per buffer),
    B size x life time, O the number of buffers that overlap it in time, T the fullest section that it is in.
    """
    size, first, end = spans.astype(np.int64).T
    load = np.zeros(int(end.max(initial=0)) + 1, np.int64)
    np.add.at(load, first, size)
    np.subtract.at(load, end, size)
    load = np.cumsum(load)
    keys = {
        "S": size,
        "W": end - first,
        "A": size * (end - first),
        "L": steps,
        "B": size * steps,
        "O": np.searchsorted(np.sort(first), end) - np.searchsorted(np.sort(end), first, side="right"),
        "T": np.array([load[begin:stop].max() for begin, stop in zip(first, end, strict=True)]),
    }
    found = [np.lexsort([-keys[letter] for letter in reversed(letters)]) for letters in PREFERENCES]
    unique = {order.tobytes(): order for order in found}
    return list(unique.values())
