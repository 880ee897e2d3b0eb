"""Resize, GridSample and normalisation in forms that ONNX's own cases do not have, against ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .reference import check, normal

RULES = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [[5, 9], [13, 4], [7, 1]], ids=str)
def test_linear(rule: str, size: list[int], tmp_path: Path) -> None:
    sizes = np.array([1, 3, *size], np.int64)
    check(tmp_path, "Resize", [normal(1, 3, 7, 6), None, None, sizes], constant=[3], mode="linear",
          coordinate_transformation_mode=rule)  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(rule: str, rounding: str, tmp_path: Path) -> None:
    sizes = np.array([2, 3, 11, 4], np.int64)
    check(tmp_path, "Resize", [normal(2, 3, 5, 8), None, None, sizes], constant=[3], mode="nearest",
          coordinate_transformation_mode=rule, nearest_mode=rounding)  # fmt: skip


@pytest.mark.parametrize("exclude", [0, 1])
def test_cubic(exclude: int, tmp_path: Path) -> None:
    scales = np.array([1, 1, 1.7, 0.6], np.float32)
    check(tmp_path, "Resize", [normal(1, 2, 6, 9), None, scales], constant=[2], mode="cubic", exclude_outside=exclude)


def test_linear_over_three_axes(tmp_path: Path) -> None:
    scales = np.array([1, 1, 2, 1.5, 0.75], np.float32)
    check(tmp_path, "Resize", [normal(1, 2, 3, 4, 8), None, scales], constant=[2], mode="linear")


@pytest.mark.parametrize("opset", [9, 10])
def test_older_forms(opset: int, tmp_path: Path) -> None:
    scales = np.array([1, 1, 2, 3], np.float32)
    check(tmp_path, "Upsample" if opset == 9 else "Resize", [normal(1, 2, 3, 4), scales], constant=[1], opset=opset,
          mode="linear")  # fmt: skip


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, align: int, tmp_path: Path) -> None:
    grid = normal(2, 5, 4, 2) * np.float32(1.2)  # well past both edges
    check(
        tmp_path,
        "GridSample",
        [normal(2, 3, 6, 7), grid],
        opset=20,
        mode=mode,
        padding_mode=padding,
        align_corners=align,
    )


NORMS: dict[str, tuple[str, list[tuple[int, ...]], dict[str, Any]]] = {
    "layer axis 1": ("LayerNormalization", [(2, 3, 4), (3, 4), (3, 4)], {"axis": 1}),
    "layer no bias": ("LayerNormalization", [(3, 33), (33,)], {"epsilon": 1e-3}),
    "instance": ("InstanceNormalization", [(2, 3, 5, 6), (3,), (3,)], {}),
    "lrn": ("LRN", [(1, 7, 4, 4)], {"size": 5, "alpha": 0.1, "beta": 0.6, "bias": 1.5}),
    "lp": ("LpNormalization", [(3, 4, 5)], {"axis": 1, "p": 1}),
    "mean variance": ("MeanVarianceNormalization", [(2, 3, 4, 5)], {"axes": [0, 2]}),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm(name: str, tmp_path: Path) -> None:
    op, shapes, attrs = NORMS[name]
    check(tmp_path, op, [normal(*s, seed=k) for k, s in enumerate(shapes)], **attrs)


def test_batch_norm_with_statistics_at_run_time(tmp_path: Path) -> None:
    shapes = [(2, 4, 3, 5), (4,), (4,), (4,), (4,)]
    given = [normal(*s, seed=k) for k, s in enumerate(shapes)]
    given[4] = np.abs(given[4]) + np.float32(0.1)
    check(tmp_path, "BatchNormalization", given)
