"""A quantized weight's stored bits in one form for every ggml type that has blocks."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """Rows of a weight [N, K] as unsigned codes with scales, exactly as stored.

    A weight is `scale * code + minimum`, or `scale * (code - zero)` where `minimum` is None, each operation rounded to
    float32. K-quants store their scales as `super_scale * sub_scale` (and `minimum` as `-super_min * sub_min`); the
    parts are kept beside the products.
    """

    codes: np.ndarray
    """uint8 [N, K], each from 0 to 2^bits - 1."""
    bits: int
    """4, 5, 6 or 8."""
    size: int
    """Weights that share a scale: 32, or 16 for Q6_K."""
    scale: np.ndarray
    """float32 [N, K / size]."""
    minimum: np.ndarray | None = None
    """float32 [N, K / size]."""
    zero: int = 0
    super_scale: np.ndarray | None = None
    """float16 [N, K / 256]."""
    sub_scale: np.ndarray | None = None
    """[N, K / size]: uint8 from 0 to 63 in Q4_K and Q5_K, int8 in Q6_K."""
    super_min: np.ndarray | None = None
    """float16 [N, K / 256]."""
    sub_min: np.ndarray | None = None
    """uint8 [N, K / size] from 0 to 63."""

    def numpy(self) -> np.ndarray:
        """The weights, float32 [N, K]."""
        rows, width = self.codes.shape
        codes = self.codes.reshape(rows, width // self.size, self.size).astype(np.float32)
        if self.minimum is None:
            codes -= np.float32(self.zero)  # exact: both are small integers
        codes *= self.scale[:, :, None]
        if self.minimum is not None:
            codes += self.minimum[:, :, None]
        return codes.reshape(rows, width)
