"""Constants of a depthwise convolution of bytes, in the order that its interleaved lanes have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .byte_lanes import GROUPS, channels_of_groups
from .conv2d_shape import ConvShape
from .depthwise_plan import RowPlan
from .stage import Const
from .tensor import Tensor


def _data(leaf: Tensor) -> np.ndarray:
    assert leaf.data is not None, f"{leaf.name} is not known at compile time"
    return np.asarray(leaf.data())


@dataclass(frozen=True)
class PiecePacking:
    """For pieces of `width` channels that begin at `starts`."""

    s: ConvShape
    width: int
    starts: tuple[int, ...]

    @property
    def channels(self) -> np.ndarray:
        """[pieces, 4, lanes]: the channel of each lane."""
        return np.asarray(self.starts)[:, None, None] + channels_of_groups(self.width // 4)

    def _key(self, what: str) -> str:
        return f"{what}:{self.s.channels}:{self.width}x{len(self.starts)}"

    def per_channel(self, leaf: Tensor, dtype: str) -> Const:
        """A number a channel, or one for all: [pieces, 4, lanes]."""

        def make() -> np.ndarray:
            data = _data(leaf).astype(dtype).reshape(-1)
            return np.broadcast_to(data, (self.s.channels,))[self.channels]

        return Const(self.channels.shape, dtype, make, self._key(f"{leaf.name}:groups"), f"{leaf.name}_packed")

    def start(self, moved: Tensor | None, bias: Tensor | None, by: int = -128) -> Const | None:
        """What the sums begin with, int32 [pieces, 4, lanes]: the bias, and `by` times the sum of the weights `moved`
        of bytes, which are taken so much smaller: signed ones from 0 on, unsigned ones from -128 on.
        """
        given = [t for t in (bias, moved) if t is not None]
        if not given:
            return None

        def make() -> np.ndarray:
            total = np.zeros(self.s.channels, np.int64)
            if bias is not None:
                total += _data(bias).reshape(-1)
            if moved is not None:
                total += by * _data(moved).reshape(self.s.channels, -1).astype(np.int64).sum(1)
            return total.astype(np.int32)[self.channels]

        names = f"{bias.name if bias else ''}:{moved.name if moved else ''}:start{by}"
        return Const(self.channels.shape, "int32", make, self._key(names), f"{given[0].name}_start")

    def weights(self, w: Tensor, band: RowPlan, per_lane: int) -> Const:
        """[pieces, 4, kW, products, lanes * rows of a unit]: int8, or int16 where the instruction multiplies those."""
        kernel, dtype = self.s.kernel, "int8" if per_lane == 4 else "int16"
        shape = (len(self.starts), GROUPS, kernel[1], len(band.products), self.width // 4 * per_lane)

        def make() -> np.ndarray:
            data = _data(w).reshape(-1, *kernel)[self.channels]
            packed = np.zeros((*self.channels.shape, kernel[1], len(band.products), per_lane), dtype)
            for p, product in enumerate(band.products):
                for i, tap in enumerate(product.taps):
                    if tap is not None:
                        packed[:, :, :, :, p, i] = data[:, :, :, tap]
            return np.ascontiguousarray(packed.transpose(0, 1, 3, 4, 2, 5)).reshape(shape)

        how = f"{w.name}:rows{band.rows}:strides{self.s.strides[0]}:{self.s.dilations[0]}:{dtype}"
        return Const(shape, dtype, make, self._key(how), f"{w.name}_packed")
