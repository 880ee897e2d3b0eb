"""GPTQ: round one input row of a weight matrix after the other, and let the rows still to come make up for the error
(Frantar et al. 2022, arXiv:2210.17323).

`gptq` is the paper's algorithm 1: what a rounding error does to the layer's answers is measured by H = XᵀX, X the
calibration inputs; the Cholesky factor of H's inverse tells how much each later row has to change. Rows are taken in
order, a block's scale is chosen when its first row comes up, updates beyond the current stretch of rows are batched.
"""

from __future__ import annotations

import numpy as np

from quant.blocks import Blocks, encode, quantize_blocks

_STRETCH = 128  # rows whose updates are applied at once, as in the paper


def gptq(
    weight: np.ndarray, hessian: np.ndarray, group: int, symmetric: bool = True, upper: np.ndarray | None = None
) -> Blocks:
    """Quantize float32 [K, N] for inputs whose XᵀX is `hessian` [K, K] (any positive multiple of it does).

    `upper` is `inverse_factor(hessian)`, if it is there already. Inputs that never were anything but 0 are rounded to
    nearest.
    """
    k, n = weight.shape
    upper = inverse_factor(hessian) if upper is None else upper
    left = weight.astype(np.float64)
    codes = np.zeros((k, n), np.int8 if symmetric else np.uint8)
    scales, zeros = np.ones((-(-k // group), n), np.float32), np.zeros((-(-k // group), n), np.uint8)
    importance = np.ascontiguousarray(np.diag(hessian), np.float32)
    stretch = group * max(1, _STRETCH // group)
    for start in range(0, k, stretch):
        end = min(start + stretch, k)
        errors = np.zeros((end - start, n))
        for row in range(start, end):
            block = row // group
            if row % group == 0:
                rows = slice(row, min(row + group, k))
                chosen = quantize_blocks(left[rows].astype(np.float32), group, symmetric, importance[rows])
                scales[block] = chosen.scales[0]
                if chosen.zeros is not None:
                    zeros[block] = chosen.zeros[0]
            zero = None if symmetric else zeros[block].astype(np.float32)
            codes[row] = encode(left[row].astype(np.float32), scales[block], zero)
            rounded = (codes[row] - (0 if zero is None else zero)) * scales[block]
            errors[row - start] = (left[row] - rounded) / upper[row, row]
            left[row + 1 : end] -= np.outer(upper[row, row + 1 : end], errors[row - start])
        left[end:] -= upper[start:end, end:].T @ errors
    return Blocks(codes, scales, None if symmetric else zeros, group)


def inverse_factor(hessian: np.ndarray, damp: float = 0.01) -> np.ndarray:
    """The upper Cholesky factor of the damped H's inverse [K, K].

    `damp` is added to H's diagonal as a share of its mean: more of it where rounding makes the inverse indefinite.
    """
    h = hessian.astype(np.float64)
    dead = np.diag(h) <= 0
    h[dead, dead] = 1
    mean = float(np.diag(h).mean())
    while True:
        try:
            inverse = np.linalg.inv(h + damp * mean * np.eye(len(h)))
            return np.linalg.cholesky((inverse + inverse.T) / 2).T
        except np.linalg.LinAlgError:
            damp *= 10
