"""Explicit pads for ONNX's auto_pad."""

from __future__ import annotations

from collections.abc import Sequence


def resolve_pads(
    auto_pad: str, pads: Sequence[int], size: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:  # fmt: skip
    """[begin of each axis, end of each axis] for a convolution or pool (SAME_UPPER puts an odd one at the end)."""
    rank = len(size)
    if auto_pad in ("NOTSET", "", None):
        return list(pads) or [0] * (2 * rank)
    if auto_pad == "VALID":
        return [0] * (2 * rank)
    begin, end = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        small = total // 2
        begin.append(total - small if auto_pad == "SAME_LOWER" else small)
        end.append(small if auto_pad == "SAME_LOWER" else total - small)
    return begin + end
