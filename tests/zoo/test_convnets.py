"""The two classifiers built from a state_dict: they name what is on foolbox's 20 labelled pictures."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from compiler.zoo.efficientnet_lite0 import same_pads
from compiler.zoo.samples import imagenet_samples

pytestmark = pytest.mark.registry
BOTH = pytest.mark.parametrize("name", ["mobilenet-v2", "efficientnet-lite0"])


def prepare(jpeg: bytes, facts: dict) -> np.ndarray:
    """The model's input as `NAME.json` says."""
    image = pytest.importorskip("PIL.Image")
    picture = image.open(io.BytesIO(jpeg)).convert("RGB")
    ratio = 256 / min(picture.size)
    kind = image.Resampling.BICUBIC if "bicubic" in facts["resize"] else image.Resampling.BILINEAR
    picture = picture.resize(tuple(round(side * ratio) for side in picture.size), kind)
    left, top = ((side - 224) // 2 for side in picture.size)
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    values = (pixels * facts["scale"] - facts["mean"]) / facts["std"]
    return values.transpose(2, 0, 1)[None].astype(np.float32)


@BOTH
def test_top1(name: str, pulled: Callable[[str], Path]) -> None:
    path = pulled(name)
    facts = json.loads(path.with_suffix(".json").read_text())["preprocess"]
    session, samples = onnxruntime.InferenceSession(path), imagenet_samples()
    assert len(samples) == 20
    answers = [session.run(None, {"input": prepare(sample.jpeg, facts)})[0].argmax() for sample in samples]
    right = sum(int(answer) == sample.label for answer, sample in zip(answers, samples, strict=True))
    # Both have 18 right. Symmetric padding leaves EfficientNet 14; the other's normalisation leaves either 15.
    assert right >= 17


@BOTH
def test_graph(name: str, pulled: Callable[[str], Path]) -> None:
    model = onnx.load(pulled(name))
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") > 40
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*model.graph.input, *model.graph.output)]
    assert shapes == [[1, 3, 224, 224], [1, 1000]]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 3, 2, [0, 0, 1, 1]), (56, 5, 2, [1, 1, 2, 2]), (7, 5, 1, [2] * 4), (7, 3, 2, [1] * 4), (8, 1, 1, [0] * 4)],
)
def test_same_pads(size: int, kernel: int, stride: int, pads: list[int]) -> None:
    assert same_pads(size, kernel, stride) == pads
