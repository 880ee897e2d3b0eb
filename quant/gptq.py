"""GPTQ: round one input row of a weight matrix after the other, and let the rows still to come make up for the error
(Frantar et al. 2022, arXiv:2210.17323).

`gptq` is the paper's algorithm 1: what a rounding error does to the layer's answers is measured by H = XᵀX, X the
calibration inputs; the Cholesky factor of H's inverse tells how much each later row has to change, and updates beyond
the current stretch of rows are batched. As in the authors' code with its options act-order and static-groups, rows with
the largest activations come first, when most rows are left to make up for them, and scales are chosen beforehand, so
that blocks stay whole whatever the order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quant.blocks import Blocks, encode, quantize_blocks, spread

_STRETCH = 128  # rows whose updates are applied at once, as in the paper


@dataclass(frozen=True)
class Curvature:
    """What GPTQ needs of H: the `order` of the rows [K], and the upper Cholesky factor of H's inverse in that order."""

    order: np.ndarray
    upper: np.ndarray


def gptq(
    weight: np.ndarray,
    hessian: np.ndarray,
    group: int,
    symmetric: bool = True,
    curvature: Curvature | None = None,
) -> Blocks:
    """Quantize float32 [K, N] for inputs whose XᵀX is `hessian` [K, K] (any positive multiple of it does).

    `curvature` is that of `hessian`, if it is there already. Inputs that never were anything but 0 are rounded to
    nearest.
    """
    k = len(weight)
    curvature = curvature or curvature_of(hessian)
    order, upper = curvature.order, curvature.upper
    chosen = quantize_blocks(weight, group, symmetric, np.ascontiguousarray(np.diag(hessian), np.float32))
    scales = spread(chosen.scales, group, k)[order]
    zeros = None if chosen.zeros is None else spread(chosen.zeros.astype(np.float32), group, k)[order]
    left = weight[order].astype(np.float64)
    codes = np.empty_like(chosen.codes)
    for start in range(0, k, _STRETCH):
        end = min(start + _STRETCH, k)
        errors = np.zeros((end - start, weight.shape[1]))
        for row in range(start, end):
            zero = None if zeros is None else zeros[row]
            code = encode(left[row], scales[row], zero)
            codes[order[row]] = code
            rounded = (code - (0 if zero is None else zero)) * scales[row]
            errors[row - start] = (left[row] - rounded) / upper[row, row]
            left[row + 1 : end] -= np.outer(upper[row, row + 1 : end], errors[row - start])
        left[end:] -= upper[start:end, end:].T @ errors
    return Blocks(codes, chosen.scales, chosen.zeros, group)


def curvature_of(hessian: np.ndarray, damp: float = 0.01) -> Curvature:
    """The order of rows for H [K, K], and the factor of its inverse.

    `damp` is added to H's diagonal as a share of its mean: more of it where rounding makes the inverse indefinite.
    """
    order = np.argsort(-np.diag(hessian), kind="stable")
    h = hessian[np.ix_(order, order)].astype(np.float64)
    dead = np.diag(h) <= 0
    h[dead, dead] = 1
    mean = float(np.diag(h).mean())
    while True:
        try:
            inverse = np.linalg.inv(h + damp * mean * np.eye(len(h)))
            return Curvature(order, np.linalg.cholesky((inverse + inverse.T) / 2).T)
        except np.linalg.LinAlgError:
            damp *= 10
