"""Rows as the compiled attention stores them (targets/kernels/cached_attention_formats.py), in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_SCALE = np.float32(1e-30)  # of a row of zeros
SPAN = 32  # neighbours that share scale and least


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


def _from_nibbles(arrays: Sequence[np.ndarray]) -> np.ndarray:
    packed, pairs = arrays
    lead = packed.shape[:-1]
    bits = packed.reshape(*lead, -1, SPAN // 2)
    codes = np.concatenate([bits & 15, bits >> 4], -1).astype(np.float32)
    factors = pairs.reshape(*lead, -1, 2).astype(np.float32)
    return (factors[..., 1:] + codes * factors[..., :1]).reshape(*lead, -1)


def _to_nibbles(rows: np.ndarray) -> Sequence[np.ndarray]:
    lead = rows.shape[:-1]
    spans = rows.reshape(*lead, -1, SPAN)
    least = spans.min(-1, keepdims=True).astype(np.float16).astype(np.float32)
    scale = ((spans.max(-1, keepdims=True) - least) / np.float32(15)).astype(np.float16).astype(np.float32)
    over = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.rint(np.clip((spans - least) * over, 0, 15)).astype(np.uint8)
    packed = codes[..., : SPAN // 2] | codes[..., SPAN // 2 :] << 4
    pairs = np.concatenate([scale, least], -1).astype(np.float16)
    return packed.reshape(*lead, -1), pairs.reshape(*lead, -1)


CODECS = {
    "f16": Codec(1, _from_half, _to_half),
    "i8": Codec(2, _from_bytes, _to_bytes),
    "i4": Codec(2, _from_nibbles, _to_nibbles),
}
