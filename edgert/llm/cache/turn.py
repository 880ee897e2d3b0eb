"""Rows of a cache moved to lower positions: their keys turned back, as if they had been written there.

A key at position p is a pair of its elements turned by p times the pair's frequency (RoPE, Su et al. 2021,
arXiv:2104.09864), so n positions lower means turned by -n times the frequency. Values have no position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgert.errors import UsageError
from edgert.llm.cache.codecs import CODECS
from edgert.llm.cache.folding import Folding


@dataclass(frozen=True)
class Rotation:
    """Of one layer's keys. See compiler.decoder.config.Rope."""

    dims: int
    """The first elements of a key, which turn."""
    interleaved: bool
    """Pairs are neighbours, rather than halves."""
    frequencies: np.ndarray
    """Radians a position, float64 [dims / 2]."""

    def turned(self, keys: np.ndarray, positions: int) -> np.ndarray:
        """float32 [..., size] keys `positions` higher (lower if negative), a new array.

        Angles are computed in float64 and their cosine and sine rounded once, as in the compiled model's tables.
        """
        angles = positions * self.frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        out = keys.copy()
        half = self.dims // 2
        first, second = (
            (slice(0, self.dims, 2), slice(1, self.dims, 2))
            if self.interleaved
            else (slice(0, half), slice(half, self.dims))
        )
        x, y = keys[..., first], keys[..., second]
        out[..., first] = x * cos - y * sin
        out[..., second] = y * cos + x * sin
        return out


class Turner:
    """Moves rows of all layers' caches of one artifact."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """`facts`: the manifest's entry `decoder`. Raises UsageError for an artifact that does not tell how keys turn,
        or whose cache holds them in a way that cannot be turned."""
        form = str(facts.get("cache", "f16"))
        if form not in CODECS and "folds" not in facts:
            raise UsageError(f"keys in a cache of format {form} cannot be turned to other positions: take {_FORMS}")
        if "rotations" not in facts:
            raise UsageError(
                "this artifact does not tell how its keys turn, so no token can be forgotten: compile a .gguf file"
            )
        kinds = [
            Rotation(int(kind["dims"]), bool(kind["interleaved"]), np.array(kind["frequencies"], np.float64))
            for kind in facts["rotations"]
        ]
        self._layers = [kinds[index] for index in facts["rotation_of_layer"]]
        self._codec = CODECS.get(form, CODECS["f16"])

    def move_down(
        self, state: Mapping[str, np.ndarray], gone: range, held: int, folding: Folding | None = None
    ) -> None:
        """Move the rows [gone.stop, held) to gone.start, in all layers, their keys turned back by len(gone)."""
        if folding is not None:
            folded = folding.refolded(held - len(gone))
            for layer, rotation in enumerate(self._layers):
                rows = np.delete(folding.unpacked(layer, held), slice(gone.start, gone.stop), 2)
                rows[0, :, gone.start :] = rotation.turned(rows[0, :, gone.start :], -len(gone))
                folding.pack(layer, rows, folded)
            folding.counts[:] = folded
            return
        for layer, rotation in enumerate(self._layers):
            names = [f"cache.{layer}", *(f"cache.{layer}.{n}" for n in range(1, self._codec.arrays))]
            for name in names:
                array = state[name]  # [1, 2, groups, rows, ...]
                array[:, :, :, gone.start : held - len(gone)] = array[:, :, :, gone.stop : held].copy()
            keys = tuple(state[name][0, 0, :, gone.start : held - len(gone)] for name in names)
            turned = rotation.turned(self._codec.decode(keys), -len(gone))
            for array, coded in zip(keys, self._codec.encode(turned), strict=True):
                array[...] = coded


_FORMS = " or ".join(CODECS)
