"""Bring a picture to the size and layout that a model's input has."""

from collections.abc import Sequence

import numpy as np


def fit_image(image: np.ndarray, shape: Sequence[int], dtype: np.dtype, scale: dict | None = None) -> np.ndarray:
    """uint8 [height, width, 3] as an array of `shape` ([1,C,H,W] or [1,H,W,C], C 1 or 3) and `dtype`.

    The picture is scaled until it covers H x W and its middle is taken. Float inputs get values in [0, 1], or
    (x - mean) / std where `scale` has those lists; uint8 inputs get the bytes. Raises ValueError for other shapes.
    """
    if len(shape) != 4 or shape[0] != 1 or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ValueError(f"a picture does not fit an input of shape {list(shape)}")
    channels_first = shape[1] in (1, 3)
    channels, height, width = (shape[1], shape[2], shape[3]) if channels_first else (shape[3], shape[1], shape[2])
    pixels = _cover(image.astype(np.float32), height, width)
    if channels == 1:  # ITU-R BT.601 luma
        pixels = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    if np.issubdtype(dtype, np.floating):
        pixels = pixels / 255
        if scale:
            mean, std = np.asarray(scale["mean"], np.float32), np.asarray(scale["std"], np.float32)
            pixels = (pixels - mean) / std
    elif dtype == np.uint8:
        pixels = np.rint(pixels)
    else:
        raise ValueError(f"a picture does not fit an input of type {dtype}")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if channels_first else pixels, dtype)[None]


def _cover(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale [h, w, c] to cover `height` x `width` and crop the middle."""
    ratio = max(height / image.shape[0], width / image.shape[1])
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
