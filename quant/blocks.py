"""Weights as small integers with one scale a block: codes, scales, and what they stand for.

A matrix here is [K, N], K the axis a product sums over; a block is `group` neighbours along K (the last one may be
shorter, as ONNX's blocked DequantizeLinear allows) in one of the N columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Shares of the widest range that are tried for each block: with few levels, cutting off the largest weight a little
# costs less than coarser steps for all others. Above 1 uses the code -8, which has no positive twin.
_SYMMETRIC = tuple(np.float32(7 / r) for r in (6.6, 7, 7.25, 7.5, 7.75, 8, 8.25, 8.5, 8.75, 9, 9.5, 10))
_ASYMMETRIC = tuple(np.float32(r) for r in (1, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.75))


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix: int8 codes in [-8, 7], or uint8 codes in [0, 15] with zero points; `decode` gives float32.

    `codes` [K, N], `scales` float32 [ceil(K / group), N], `zeros` uint8 of the scales' shape or None (symmetric).
    """

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray | None
    group: int

    def decode(self) -> np.ndarray:
        """The float32 [K, N] that DequantizeLinear gives: (code - zero) * scale."""
        codes = self.codes.astype(np.float32)
        if self.zeros is not None:
            codes -= spread(self.zeros.astype(np.float32), self.group, len(codes))
        return codes * spread(self.scales, self.group, len(codes))


def spread(values: np.ndarray, group: int, length: int) -> np.ndarray:
    """Each of `values`' rows `group` times, cut to `length` rows: [ceil(length / group), N] -> [length, N]."""
    return np.repeat(values, group, axis=0)[:length]


def usable(scale: np.ndarray) -> np.ndarray:
    """Scales that may be divided by: 1 where a block is all zeros, or so small that its scale is not a normal float32
    (its codes are then 0, off by less than 1e-36)."""
    return np.where(scale >= np.finfo(np.float32).tiny, scale, np.float32(1)).astype(np.float32)


def per_column(weight: np.ndarray, limit: int = 127) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 with one scale a column of [K, N]: codes [K, N] in [-limit, limit], scales float32 [N]."""
    scales = usable(np.abs(weight).max(axis=0, initial=0).astype(np.float32) / np.float32(limit))
    return np.clip(np.rint(weight / scales), -limit, limit).astype(np.int8), scales


def quantize_blocks(
    weight: np.ndarray, group: int, symmetric: bool = True, importance: np.ndarray | None = None
) -> Blocks:
    """Round float32 [K, N] to 4 bits, each block's scale chosen for the least squared error.

    `importance` [K] weighs the inputs (mean squares of the activations, as AWQ's clipping search does).
    """
    k, n = weight.shape
    count = -(-k // group)
    cube = np.zeros((count * group, n), np.float32)
    cube[:k] = weight
    cube = cube.reshape(count, group, n)
    care = np.zeros((count * group, 1), np.float32)
    care[:k, 0] = 1 if importance is None else importance / max(float(importance.mean()), 1e-30) + 1e-6
    care = care.reshape(count, group, 1)
    codes, scales, zeros = (_symmetric if symmetric else _asymmetric)(cube, care)
    return Blocks(codes.reshape(-1, n)[:k], scales, zeros, group)


def encode(row: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None) -> np.ndarray:
    """Round float32 values to codes of scales and zero points already chosen (all broadcastable)."""
    if zeros is None:
        return np.clip(np.rint(row / scales), -8, 7).astype(np.int8)
    return np.clip(np.rint(row / scales) + zeros, 0, 15).astype(np.uint8)


def _symmetric(cube: np.ndarray, care: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
    widest = np.abs(cube).max(axis=1) / np.float32(7)
    best, scales = np.full(widest.shape, np.inf, np.float32), usable(widest)
    for ratio in _SYMMETRIC:
        scale = usable(widest * ratio)
        codes = np.clip(np.rint(cube / scale[:, None]), -8, 7)
        # the scale that suits these codes best: least squares of scale * codes against the weights
        power = (care * codes * codes).sum(axis=1)
        fitted = (care * codes * cube).sum(axis=1) / np.where(power > 0, power, 1)
        scale = np.where(fitted >= np.finfo(np.float32).tiny, fitted, scale).astype(np.float32)
        codes = np.clip(np.rint(cube / scale[:, None]), -8, 7)
        error = (care * (cube - codes * scale[:, None]) ** 2).sum(axis=1)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale, scales)
    return encode(cube, scales[:, None], None), scales, None


def _asymmetric(cube: np.ndarray, care: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = np.minimum(cube.min(axis=1), 0), np.maximum(cube.max(axis=1), 0)
    best = np.full(low.shape, np.inf, np.float32)
    scales, zeros = np.ones_like(low), np.zeros_like(low)
    for ratio in _ASYMMETRIC:
        scale = usable((high - low) * ratio / np.float32(15))
        zero = np.clip(np.rint(-low * ratio / scale), 0, 15)
        codes = np.clip(np.rint(cube / scale[:, None]) + zero[:, None], 0, 15) - zero[:, None]
        error = (care * (cube - codes * scale[:, None]) ** 2).sum(axis=1)
        better = error < best
        best = np.where(better, error, best)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    return encode(cube, scales[:, None], zeros[:, None]), scales.astype(np.float32), zeros.astype(np.uint8)
