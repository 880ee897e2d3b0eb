"""What calibration sees in each channel of a tensor: mean, smallest and largest value."""

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
    low: np.ndarray  # float64 [channels], the smallest value
    high: np.ndarray  # the largest value

    @property
    def magnitude(self) -> np.ndarray:
        """[channels]: the largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

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
            new = Channels(rows.sum(axis=1), rows.shape[1], rows.min(axis=1), rows.max(axis=1))
            if (old := seen.get(name)) is not None:
                low, high = np.minimum(old.low, new.low), np.maximum(old.high, new.high)
                new = Channels(old.total + new.total, old.count + new.count, low, high)
            seen[name] = new
    return seen
