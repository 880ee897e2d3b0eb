"""Visual wake words and keyword spotting: networks that come quantized, and our own int8 of the first."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgert.interface.beside import beside_onnxruntime
from quant.quantize import quantize
from tests.models.quantized import TARGETS, shared, through_artifact, through_onnxruntime

pytestmark = pytest.mark.slow

FLOAT, GIVEN, KEYWORDS = (
    "models/vww/vww_96_float.onnx",
    "models/vww/vww_96_qdq_int8.onnx",
    "models/kws/kws_qdq_int8.onnx",
)
# Probabilities after the same integers: a float32 softmax, a unit or two in the last place of 1.
SOFTMAX = 1e-6


@cache
def pictures() -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """500 pictures as the networks take them, and whether a person is to be seen."""
    with np.load(shared("data/vww/vww_500.npz")) as data:
        images, labels = data["images"].astype(np.float32) / 255, data["labels"]
    name = onnx.load(shared(FLOAT)).graph.input[0].name
    return [{name: np.ascontiguousarray(image.transpose(2, 0, 1)[None])} for image in images], labels


def output(model: Path) -> str:
    return str(onnx.load(model).graph.output[0].name)


def right(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(1) == labels).mean())


def test_visual_wake_words_in_float32(tmp_path: Path) -> None:
    feeds, labels = pictures()
    model = shared(FLOAT)
    ours = through_artifact(model, feeds, output(model), tmp_path).outputs
    assert right(ours, labels) == 0.85
    assert np.abs(ours - through_onnxruntime(model, feeds, output(model))).max() < 1e-5


@pytest.mark.parametrize("target", TARGETS)
def test_the_given_visual_wake_words(target: str, tmp_path: Path) -> None:
    feeds, labels = pictures()
    model = shared(GIVEN)
    ours = through_artifact(model, feeds, output(model), tmp_path, target=target)
    theirs = through_onnxruntime(model, feeds, output(model))
    assert right(ours.outputs, labels) == right(theirs, labels) == 0.842
    assert (ours.outputs.argmax(1) == theirs.argmax(1)).all()
    assert np.abs(ours.outputs - theirs).max() <= SOFTMAX
    assert len(ours.products()) == 28 and ours.on_floats() == []


def test_own_visual_wake_words(tmp_path: Path) -> None:
    feeds, labels = pictures()
    calibrating = np.arange(500) % 5 == 0
    made, plain = tmp_path / "q.onnx", shared(FLOAT)
    quantize(plain, made, "int8", [feed for feed, chosen in zip(feeds, calibrating, strict=True) if chosen])
    rest = [feed for feed, chosen in zip(feeds, calibrating, strict=True) if not chosen]
    before = right(through_onnxruntime(plain, rest, output(plain)), labels[~calibrating])
    ours = through_artifact(made, rest, output(made), tmp_path)
    assert right(ours.outputs, labels[~calibrating]) >= before - 0.005
    assert np.abs(ours.outputs - through_onnxruntime(made, rest, output(made))).max() <= SOFTMAX
    assert len(ours.products()) == 28 and ours.on_floats() == []
    inside = beside_onnxruntime(made, rest[:2])
    assert inside.codes > 5e5
    assert inside.steps <= 1 and inside.ties <= 1e-5 * inside.codes


@pytest.mark.parametrize("target", TARGETS)
def test_the_given_keyword_spotting(target: str, tmp_path: Path) -> None:
    model = shared(KEYWORDS)
    rng = np.random.default_rng(3)
    scales = np.geomspace(3, 100, 40, dtype=np.float32)  # some a few steps, some clipped
    feeds = [{"input_1": scale * rng.standard_normal((1, 490), np.float32)} for scale in scales]
    ours = through_artifact(model, feeds, output(model), tmp_path, target=target)
    theirs = through_onnxruntime(model, feeds, output(model))
    assert len(np.unique(theirs, axis=0)) == len(scales)  # so that equal answers say something
    assert np.abs(ours.outputs - theirs).max() <= SOFTMAX
    assert len(ours.products()) == 10 and ours.on_floats() == []
