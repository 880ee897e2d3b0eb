"""Rows as the compiled attention stores them (targets/kernels/cached_attention_formats.py), in numpy.

groups.py has the formats of few bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_SCALE = np.float32(1e-30)  # of a row of zeros


@dataclass(frozen=True)
class Codec:
    """From the arrays [..., rows, ...] of a format to float32 [..., rows, size], and back as the kernels round."""

    arrays: int
    decode: Callable[[Sequence[np.ndarray]], np.ndarray]
    encode: Callable[[np.ndarray], Sequence[np.ndarray]]


def _from_half(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0].astype(np.float32)


def _to_half(rows: np.ndarray) -> Sequence[np.ndarray]:
    return (rows.astype(np.float16),)


def _from_bytes(arrays: Sequence[np.ndarray]) -> np.ndarray:
    codes, scales = arrays
    return codes.astype(np.float32) * scales[..., None]


def _to_bytes(rows: np.ndarray) -> Sequence[np.ndarray]:
    scales = np.maximum(np.abs(rows).max(-1) / np.float32(127), LEAST_SCALE)
    codes = np.rint(np.clip(rows / scales[..., None], -127, 127)).astype(np.int8)
    return codes, scales


CODECS = {
    "f16": Codec(1, _from_half, _to_half),
    "i8": Codec(2, _from_bytes, _to_bytes),
}
