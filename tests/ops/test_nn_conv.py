"""Convolution and pooling in forms that ONNX's own cases do not have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .reference import check, normal

Shape = tuple[int, ...]

CONVS: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
    "1d": ((2, 3, 17), (4, 3, 5), {"pads": [2, 1], "strides": [2]}),
    "1d same lower": ((1, 2, 10), (3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [3]}),
    "2d asymmetric": ((1, 3, 9, 8), (5, 3, 3, 2), {"pads": [2, 0, 1, 1], "strides": [2, 1]}),
    "2d grouped dilated": ((2, 6, 11, 10), (4, 3, 3, 3), {"group": 2, "dilations": [2, 3], "pads": [1, 2, 3, 4]}),
    "2d depthwise": ((1, 5, 8, 7), (5, 1, 3, 3), {"group": 5, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "2d multiplier": ((1, 3, 7, 7), (6, 1, 3, 3), {"group": 3}),
    "3d": ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"pads": [1, 0, 1, 0, 1, 0], "strides": [1, 2, 1]}),
}


@pytest.mark.parametrize("constant", [False, True], ids=["weights given", "weights constant"])
@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str, constant: bool, tmp_path: Path) -> None:
    x, w, attrs = CONVS[name]
    check(tmp_path, "Conv", [normal(*x), normal(*w), normal(w[0])], constant=[1, 2] if constant else [], **attrs)


TRANSPOSED: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
    "1d": ((1, 3, 6), (3, 2, 4), {"strides": [3], "output_padding": [2], "pads": [1, 0]}),
    "grouped": ((1, 4, 5, 4), (4, 3, 3, 2), {"group": 2, "strides": [2, 1], "dilations": [1, 2]}),
    "output_shape": ((1, 2, 4, 4), (2, 3, 3, 3), {"strides": [2, 2], "output_shape": [8, 9]}),
    "same": ((2, 2, 4, 5), (2, 2, 3, 4), {"strides": [2, 3], "auto_pad": "SAME_LOWER"}),
    "3d": ((1, 2, 3, 3, 2), (2, 2, 2, 3, 2), {"strides": [2, 1, 2], "pads": [0, 1, 0, 1, 0, 1]}),
}


@pytest.mark.parametrize("constant", [False, True], ids=["weights given", "weights constant"])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose(name: str, constant: bool, tmp_path: Path) -> None:
    x, w, attrs = TRANSPOSED[name]
    bias = normal(w[1] * int(attrs.get("group", 1)))
    check(tmp_path, "ConvTranspose", [normal(*x), normal(*w), bias], constant=[1, 2] if constant else [], **attrs)


POOLS: dict[str, tuple[Shape, dict[str, Any]]] = {
    "1d": ((2, 3, 15), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    "2d ceil": ((1, 2, 10, 9), {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1]}),
    "2d dilated": ((1, 3, 12, 11), {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [1, 2, 2, 1]}),
    "3d same": ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [2, 2, 2], "auto_pad": "SAME_UPPER"}),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pool_with_indices(name: str, tmp_path: Path) -> None:
    shape, attrs = POOLS[name]
    check(tmp_path, "MaxPool", [normal(*shape)], outputs=2, opset=22, **attrs)


def test_max_pool_column_major(tmp_path: Path) -> None:
    check(tmp_path, "MaxPool", [normal(1, 2, 6, 7)], outputs=2, kernel_shape=[2, 3], strides=[2, 2], storage_order=1)


@pytest.mark.parametrize("padded", [0, 1])
@pytest.mark.parametrize("name", [n for n in POOLS if "dilated" not in n])
def test_average_pool(name: str, padded: int, tmp_path: Path) -> None:
    shape, attrs = POOLS[name]
    check(tmp_path, "AveragePool", [normal(*shape)], opset=19, count_include_pad=padded, **attrs)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p: int, tmp_path: Path) -> None:
    check(tmp_path, "LpPool", [normal(1, 2, 8, 9)], p=p, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])


def test_max_pool_of_minus_infinity(tmp_path: Path) -> None:
    x = np.full((1, 1, 4, 4), -np.inf, np.float32)
    x[0, 0, 3, 3] = 1.0
    check(tmp_path, "MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
