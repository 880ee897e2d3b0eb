"""ddddocr's common_old.onnx, quantized by its authors (ConvInteger, MatMulInteger, DynamicQuantizeLSTM), as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import edgert
from compiler.zoo.fetch import fetch_wheel, read_members
from compiler.zoo.model import Wheel
from targets.errors import EdgertError

pytestmark = [pytest.mark.registry, pytest.mark.slow]

WHEEL = Wheel(
    project="ddddocr",
    version="1.6.1",
    sha256="c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
    nbytes=75983593,
)
MEMBER = "ddddocr/common_old.onnx"
# Of the answers' range. Every layer's input is quantized to 8 bits over its own range, so a float32 rounding (another
# order of the same sum, another sigmoid) moves a value now and then to the next of 255 steps, and 22 layers carry that
# on. Perturbing the picture by 2e-7 moves ONNX Runtime's own answers by up to 3 %. Where no value moves the two agree
# to float32 roundings.
MOVED, UNMOVED = 0.05, 1e-5


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        data = read_members(fetch_wheel(WHEEL), (MEMBER,))[MEMBER]
    except EdgertError as error:
        if "SHA-256" in str(error):
            raise
        pytest.skip(str(error))
    path = tmp_path_factory.mktemp("ddddocr") / "common_old.onnx"
    path.write_bytes(data)
    return path


def picture(seed: int, width: int) -> np.ndarray:
    """Four characters on noise: float32 [1, 1, 64, width] in [-1, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng([19, seed])
    image = Image.new("L", (width, 64), 235)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=width / 4)
    for i, letter in enumerate(rng.choice(list("0123456789ABCDEFXYZ"), 4)):
        place = (width / 14 + i * width / 4.7, int(rng.integers(2, 14)))
        draw.text(place, letter, fill=int(rng.integers(10, 90)), font=font)
    noisy = np.asarray(image, np.float32) + rng.normal(0, 12, (64, width)).astype(np.float32)
    return (np.clip(noisy, 0, 255) / 127.5 - 1).astype(np.float32)[None, None]


def test_reads_what_onnxruntime_reads(source: Path, tmp_path: Path) -> None:
    edgert.compile(source, tmp_path / "m.edge", dims={"image_width": (32, 200)}, golden=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    reference = ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    unmoved = 0
    with edgert.load(tmp_path / "m.edge", threads=2) as model:
        for seed in range(12):
            x = picture(seed, (120, 160, 193)[seed % 3])
            (wanted,) = reference.run(None, {"input1": x})
            got = model.run({"input1": x})["387"]
            assert got.shape == wanted.shape
            np.testing.assert_array_equal(got.argmax(-1), wanted.argmax(-1))
            error = float(np.abs(got - wanted).max() / np.ptp(wanted))
            assert error <= MOVED
            unmoved += error <= UNMOVED
    assert unmoved, "no picture gives ONNX Runtime's numbers: more than roundings differs"
