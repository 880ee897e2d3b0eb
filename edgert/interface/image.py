"""Bring a picture to the size and layout that a model's input has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def fit_image(image: np.ndarray, shape: Sequence[int], dtype: np.dtype, known: Mapping[str, Any]) -> np.ndarray:
    """uint8 RGB [height, width, 3] as an array of `shape` ([1,C,H,W] or [1,H,W,C], C 1 or 3) and `dtype`.

    The picture is scaled until it covers H x W and its middle is taken; with `known["short_side"]` it is scaled to
    that on its short side first. uint8 inputs get the bytes; float inputs get (x * scale - mean) / std with the
    numbers `known` has (1/255, 0 and 1 where it has none), in BGR order where `known["channels"]` says so.
    Raises ValueError for other shapes and types.
    """
    if len(shape) != 4 or shape[0] != 1 or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ValueError("a picture does not fit this shape")
    channels_first = shape[1] in (1, 3)
    channels, height, width = (shape[1], shape[2], shape[3]) if channels_first else (shape[3], shape[1], shape[2])
    pixels = _cover(image.astype(np.float32), height, width, known.get("short_side", 0))
    if channels == 1:  # ITU-R BT.601 luma
        pixels = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    elif known.get("channels") == "BGR":
        pixels = pixels[..., ::-1]
    if np.issubdtype(dtype, np.floating):
        mean, std = np.asarray(known.get("mean", 0), np.float32), np.asarray(known.get("std", 1), np.float32)
        pixels = (pixels * np.float32(known.get("scale", 1 / 255)) - mean) / std
    elif dtype == np.uint8:
        pixels = np.rint(pixels)
    else:
        raise ValueError("a picture fits float and uint8 inputs")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if channels_first else pixels, dtype)[None]


def _cover(image: np.ndarray, height: int, width: int, short_side: int) -> np.ndarray:
    """Scale [h, w, c] to cover `height` x `width`, or to `short_side` where that is more, and crop the middle."""
    ratio = max(height / image.shape[0], width / image.shape[1], short_side / min(image.shape[:2]))
    tall, wide = max(height, round(image.shape[0] * ratio)), max(width, round(image.shape[1] * ratio))
    rows = _weights(image.shape[0], tall)[(tall - height) // 2 :][:height]
    columns = _weights(image.shape[1], wide)[(wide - width) // 2 :][:width]
    return np.einsum("yh,hwc,xw->yxc", rows, image, columns, optimize=True)


def _weights(size: int, target: int) -> np.ndarray:
    """Matrix [target, size] that resamples with a triangle filter, widened when shrinking so that nothing aliases."""
    support = max(1.0, size / target)
    centres = (np.arange(target) + 0.5) * size / target - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(size)[None] - centres[:, None]) / support)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
