"""What calibration sees in each channel of a tensor: mean and largest value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quant.taps import Taps

if TYPE_CHECKING:
    import onnx


@dataclass
class Channels:
    """Sums over all that was seen of a tensor with `high.size` channels."""

    total: np.ndarray  # float64 [channels]
    count: int  # values a channel
    high: np.ndarray  # float64 [channels], the largest value

    @property
    def mean(self) -> np.ndarray:
        """[channels]: the mean over samples and positions."""
        return self.total / max(1, self.count)


def channel_statistics(
    model: onnx.ModelProto, samples: Iterable[dict[str, np.ndarray]], axes: Mapping[str, int]
) -> dict[str, Channels]:
    """Statistics of the tensors named by `axes` (tensor: the axis its channels lie along, may be negative)."""
    taps, seen = Taps(model, axes), dict[str, Channels]()
    for feeds in samples:
        for name, value in taps.run(feeds).items():
            rows = np.moveaxis(value, axes[name], 0).reshape(value.shape[axes[name]], -1).astype(np.float64)
            if not rows.size:
                continue
            total, high = rows.sum(axis=1), rows.max(axis=1)
            if (old := seen.get(name)) is not None:
                total, high = total + old.total, np.maximum(high, old.high)
            seen[name] = Channels(total, rows.shape[1] + (old.count if old else 0), high)
    return seen
