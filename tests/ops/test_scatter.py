"""Scatter, selection and sequences against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .reference import check

RNG = np.random.default_rng(6)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements(reduction: str, tmp_path: Path) -> None:
    data = RNG.random((4, 6), np.float32)
    places = np.array([[0, -1, 2], [3, 3, -4]]) if reduction != "none" else np.array([[0, -1, 2], [3, 2, -4]])
    check(
        tmp_path,
        "ScatterElements",
        [data, places, RNG.random((2, 3), np.float32)],
        opset=18,
        axis=1,
        reduction=reduction,
    )


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd(reduction: str, tmp_path: Path) -> None:
    data = RNG.integers(-9, 9, (4, 3, 2))
    places = np.array([[0, 1], [-1, 2], [2, 0]])
    check(tmp_path, "ScatterND", [data, places, RNG.integers(-9, 9, (3, 2))], opset=18, reduction=reduction)


@pytest.mark.parametrize("shape", [(4, 5), (0, 3), (), (7,)])
def test_non_zero(shape: tuple, tmp_path: Path) -> None:
    check(tmp_path, "NonZero", [RNG.integers(0, 2, shape).astype(np.float32)])


@pytest.mark.parametrize("attrs", [{}, {"axis": 0}, {"axis": -1}])
def test_compress_with_a_short_condition(attrs: dict, tmp_path: Path) -> None:
    check(tmp_path, "Compress", [RNG.random((3, 4), np.float32), np.array([True, False, True])], **attrs)


@pytest.mark.parametrize("attrs", [{}, {"axis": 0}, {"axis": 1}, {"sorted": 0}, {"sorted": 0, "axis": 1}])
def test_unique(attrs: dict, tmp_path: Path) -> None:
    check(tmp_path, "Unique", [RNG.integers(-2, 2, (6, 3)).astype(np.float32)], outputs=4, **attrs)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_reverse_sequence(axes: tuple, tmp_path: Path) -> None:
    x = RNG.random((4, 4, 2), np.float32)
    check(tmp_path, "ReverseSequence", [x, np.array([1, 4, 2, 3])], batch_axis=axes[0], time_axis=axes[1])
