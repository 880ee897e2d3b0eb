"""MobileNetV2 and EfficientNet-Lite0 in int8, compiled, on labelled pictures; calibrated on other ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compiler.zoo import pull
from edgert.interface.beside import beside_onnxruntime
from quant.quantize import quantize
from tests.models.quantized import mean_cosine, through_artifact, through_onnxruntime
from tests.models.real import pictures
from tests.quant.test_real_models import other_pictures

pytestmark = [pytest.mark.registry, pytest.mark.slow]


@pytest.mark.parametrize(("name", "products"), [("mobilenet-v2", 53), ("efficientnet-lite0", 50)])
def test_int8_classifies_as_float32_and_onnxruntime_do(name: str, products: int, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    plain, made = pull(name, tmp_path), tmp_path / "q.onnx"
    about = json.loads(plain.with_suffix(".json").read_text())["preprocess"]
    quantize(plain, made, "int8", other_pictures(about))
    shown = pictures(224, str(plain))
    feeds, labels = [{"input": image} for image, _ in shown], np.array([label for _, label in shown])
    ours = through_artifact(made, feeds, "logits", tmp_path)
    theirs = through_onnxruntime(made, feeds, "logits")
    assert (ours.outputs.argmax(1) == labels).sum() >= 17
    assert mean_cosine(ours.outputs, through_onnxruntime(plain, feeds, "logits")) >= 0.99
    assert (ours.outputs.argmax(1) == theirs.argmax(1)).all()
    # Logits are codes times one scale: equal codes give equal logits.
    assert (ours.outputs == theirs).mean() >= 0.999
    assert len(ours.products()) >= products and ours.on_floats() == []
    inside = beside_onnxruntime(made, feeds[:1], tmp_path / "q.edge")
    assert inside.codes > 4e6
    assert inside.steps <= 1 and inside.ties <= 1e-6 * inside.codes
