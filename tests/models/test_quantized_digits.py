"""Classifiers of handwritten digits in int8, compiled, on labelled digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from quant.quantize import quantize
from tests.models.quantized import through_artifact, through_onnxruntime
from tests.quant.test_real_models import dense, mnist

CALIBRATION = 100  # the first digits


def check(
    proto: onnx.ModelProto, digits: np.ndarray, labels: np.ndarray, scored: slice, products: int, folder: Path
) -> None:
    """At most half a point is lost, the answers are ONNX Runtime's, and all products run on integers."""
    plain, made = folder / "f.onnx", folder / "q.onnx"
    onnx.save(proto, plain)
    quantize(plain, made, "int8", [{"x": digit[None]} for digit in digits[:CALIBRATION]])
    feeds = [{"x": np.ascontiguousarray(digit[None])} for digit in digits[scored]]
    before = through_onnxruntime(plain, feeds, "y").argmax(1) == labels[scored]
    ours = through_artifact(made, feeds, "y", folder)
    assert (ours.outputs.argmax(1) == labels[scored]).mean() >= before.mean() - 0.005
    theirs = through_onnxruntime(made, feeds, "y")
    assert np.abs(ours.outputs - theirs).max() <= 1e-6 * np.abs(theirs).max()
    assert len(ours.products()) == products and ours.on_floats() == []


@pytest.mark.parametrize("hidden", [(), (64, 32)], ids=["logistic", "perceptron"])
def test_scikit_learns_digits(hidden: tuple[int, ...], tmp_path: Path) -> None:
    check(*dense(hidden), slice(900, None), len(hidden) + 1, tmp_path)


@pytest.mark.registry
def test_mnist_network_on_digits(tmp_path: Path) -> None:
    check(*mnist(), slice(CALIBRATION, None), 5, tmp_path)
