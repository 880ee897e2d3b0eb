"""A cache whose old rows are folded into groups of few bits: when that happens, and rows taken back or put anew.

The compiled program folds, at the beginning of a run, what `counts` names; it knows no more of the text. Row r of the
text is row r of the window where r < sinks, row r - folded where r >= sinks + folded, and row r - sinks of the groups
else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgert.llm.cache.groups import Groups


class Folding:
    """Which rows are folded, of one engine's cache."""

    def __init__(self, groups: Groups, state: Mapping[str, np.ndarray], layers: int) -> None:
        self.groups, self.counts = groups, np.zeros(2, np.int64)
        """`counts`: rows folded before the next run and from its beginning on, as the program is given them."""
        self._layers = [[state[f"cache.{i}{part}"] for part in ("", ".1", ".2", ".3")] for i in range(layers)]

    @property
    def windows(self) -> list[np.ndarray]:
        """Every layer's window [1, 2, groups, window, size]."""
        return [layer[0] for layer in self._layers]

    @property
    def folded(self) -> int:
        """Rows in the groups."""
        return int(self.counts[1])

    def place(self, held: int) -> int:
        """How many more rows the window has room for as it is, beside those of `held`."""
        return self.groups.window - (held - self.folded)

    def advance(self, held: int, more: int) -> None:
        """Have so many folded that `more` (at most groups.most) rows fit behind `held`, and no more than that."""
        group, lacking = self.groups.group, more - self.place(held)
        self.counts[0] = self.folded
        self.counts[1] += max(0, -(-lacking // group) * group)

    def possible(self, held: int, folded: int) -> bool:
        """Whether so many of `held` rows can be folded."""
        within = 0 <= folded <= max(0, held - self.groups.sinks) and held - folded <= self.groups.window
        return within and folded % self.groups.group == 0

    def cut(self, held: int) -> None:
        """Only the first `held` rows are still in use: those of a group that loses others go back to the window."""
        rest = max(0, held - self.groups.sinks)
        if rest >= self.folded:
            return
        whole = rest // self.groups.group * self.groups.group
        for layer in self._layers:
            rows = self._decoded(layer, whole, whole + self.groups.group)[:, :, : rest - whole]
            layer[0][0, :, :, self.groups.sinks : self.groups.sinks + rest - whole] = rows
        self.counts[:] = whole

    def window_rows(self, rows: np.ndarray) -> np.ndarray:
        """Where in the window these rows are, which are not folded."""
        return np.where(rows < self.groups.sinks, rows, rows - self.folded)

    def unpacked(self, layer: int, held: int) -> np.ndarray:
        """All rows in use as float32 [2, groups, held, size]."""
        arrays, sinks, folded = self._layers[layer], self.groups.sinks, self.folded
        window = arrays[0][0].astype(np.float32)
        first, rest = window[:, :, : min(sinks, held)], window[:, :, sinks : max(sinks, held - folded)]
        return np.concatenate([first, self._decoded(arrays, 0, folded), rest], 2)

    def pack(self, layer: int, rows: np.ndarray, folded: int) -> None:
        """Store rows, float32 [2, groups, held, size], `folded` of them in groups; `counts` are the caller's.

        A scale spans all of a range here, so that values which come out of groups go in again as they are."""
        arrays, sinks, groups = self._layers[layer], self.groups.sinks, self.groups
        window = np.concatenate([rows[:, :, :sinks], rows[:, :, sinks + folded :]], 2)
        arrays[0][0, :, :, : window.shape[2]] = window
        middle = rows[:, :, sinks : sinks + folded]
        encoded = groups.encode_keys(middle[0], 1.0), groups.encode_values(middle[1], 1.0)
        for kv, (codes, factors) in enumerate(encoded):
            arrays[1][0, kv, :, :folded] = codes
            arrays[2 + kv][0, 0, :, :folded] = factors

    def refolded(self, held: int) -> int:
        """How many of `held` rows to fold when they are put anew: not many more than are in the groups now."""
        group = self.groups.group
        least = max(0, held - self.groups.window)
        return -(-least // group) * group

    def _decoded(self, arrays: list[np.ndarray], start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of the groups, whole ones, as float32 [2, groups, rows, size]."""
        codes, keys, values = (array[0, :, :, start:stop] for array in arrays[1:])
        return np.stack([self.groups.decode_keys(codes[0], keys[0]), self.groups.decode_values(codes[1], values[0])])
