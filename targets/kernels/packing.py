"""Weights in the order a kernel reads them: panels [cols/NR][depth][NR], padded with zeros. Made at compile time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .stage import Const
from .tensor import Tensor


def pack_panels(matrix: np.ndarray, width: int) -> np.ndarray:
    """[depth, cols] -> [ceil(cols/width), depth, width], the last panel padded with zeros."""
    depth, cols = matrix.shape
    panels = -(-cols // width)
    packed = np.zeros((panels, depth, width), matrix.dtype)
    whole = cols // width
    packed[:whole] = matrix[:, : whole * width].reshape(depth, whole, width).transpose(1, 0, 2)
    if whole < panels:
        packed[whole, :, : cols - whole * width] = matrix[:, whole * width :]
    return packed


def panel_const(leaf: Tensor, matrix: Callable[[np.ndarray], np.ndarray], depth: int, cols: int, width: int,
                how: str) -> Const:  # fmt: skip
    """The packed panels of a constant leaf. `matrix` gives its data as [depth, cols]; `how` names that."""
    data = leaf.data
    assert data is not None, f"{leaf.name} is not known at compile time"
    shape = (-(-cols // width), depth, width)
    return Const(
        shape, leaf.dtype, lambda: pack_panels(matrix(np.asarray(data())), width),
        f"{leaf.name}:{how}:panels{width}", f"{leaf.name}_packed",
    )  # fmt: skip
