"""Affine quantization: real = scale * (code - zero). Scales, zero points and codes from ranges and weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Lowest and highest code. Weights leave out the lowest one, so that a format is the same turned about zero.
LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-32768, 32767), "uint16": (0, 65535)}
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


class Range(NamedTuple):
    """The lowest and highest real value that a tensor's codes shall reach."""

    low: float
    high: float

    def union(self, other: Range) -> Range:
        """The range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def affine(found: Range, dtype: str, symmetric: bool) -> tuple[np.float32, int]:
    """Scale and zero point for codes of `dtype`; zero is always represented exactly (padding needs it).

    Symmetric formats have zero point 0 and use the same number of codes on both sides. A range of nothing but zero
    gets scale 2 ** -10: any would do for itself, but biases have steps of this scale times that of the weights.
    """
    lowest, highest = LIMITS[dtype]
    low, high = min(0.0, float(found.low)), max(0.0, float(found.high))
    if symmetric:
        scale = max(-low, high) / highest
    else:
        scale = (high - low) / (highest - lowest)
    if scale == 0:
        return np.float32(2.0**-10), 0 if symmetric else max(0, lowest)
    scale32 = np.float32(max(scale, SMALLEST_SCALE))
    zero = 0 if symmetric else int(np.clip(np.rint(lowest - low / float(scale32)), lowest, highest))
    return scale32, zero


def encode(values: np.ndarray, scale: np.ndarray | float, zero: int, dtype: str) -> np.ndarray:
    """Codes as ONNX's QuantizeLinear gives them: divided, rounded half to even, moved by the zero point, clamped."""
    codes = np.rint(values.astype(np.float32) / np.asarray(scale, np.float32)) + zero
    return np.clip(codes, *LIMITS[dtype]).astype(dtype)


def channel_scales(weights: np.ndarray, axis: int, highest: int = 127) -> np.ndarray:
    """Symmetric scales, float32 [channels], one for each index of `axis`; 1 for a channel of zeros."""
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    top = np.abs(weights).max(axis=others, initial=0).astype(np.float64)
    return np.where(top > 0, np.maximum(top / highest, SMALLEST_SCALE), 1).astype(np.float32)


def encode_channels(weights: np.ndarray, scales: np.ndarray, axis: int, highest: int = 127) -> np.ndarray:
    """Symmetric int8 codes in [-highest, highest] of weights with one scale for each index of `axis`."""
    along = [1] * weights.ndim
    along[axis] = -1
    return np.clip(np.rint(weights / scales.reshape(along)), -highest, highest).astype(np.int8)


def best_channel_scales(weights: np.ndarray, axis: int, highest: int = 127) -> np.ndarray:
    """As `channel_scales`, but of 41 scales about that one the one with the least squared error, for each channel.

    Where a channel has few weights (nine, in a depthwise convolution) a lucky scale has a fraction of the error.
    """
    start = channel_scales(weights, axis, highest)
    rows = np.moveaxis(weights, axis, 0).reshape(len(start), -1).astype(np.float32)
    best, least = start, np.full(len(start), np.inf, np.float32)
    for share in sorted(np.linspace(0.8, 1.2, 41), key=lambda share: abs(share - 1)):
        scales = np.maximum(start * np.float32(share), np.float32(SMALLEST_SCALE))
        codes = np.clip(np.rint(rows / scales[:, None]), -highest, highest)
        error = ((codes * scales[:, None] - rows) ** 2).sum(axis=1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best
