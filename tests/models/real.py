"""The six real models, their shapes, and real inputs for each."""

from __future__ import annotations

import io
import json
import wave
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

import edgert
from compiler.zoo import pull
from compiler.zoo.samples import imagenet_samples
from compiler.zoo.wordpiece import WordPiece


@dataclass(frozen=True)
class RealModel:
    """How one model is compiled."""

    name: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dims: dict[str, tuple[int, int]] = field(default_factory=dict)


MODELS = {
    m.name: m
    for m in (
        RealModel("magika", shapes={"bytes": (1, 2048)}),
        RealModel("silero-vad"),
        RealModel("mobilenet-v2"),
        RealModel("efficientnet-lite0"),
        RealModel("minilm", dims={"seq": (1, 128)}),
        RealModel("ppocr-det", shapes={"x": (1, 3, 480, 480)}),
    )
}


def compiled(name: str, folder: Path, target: str = "host") -> tuple[Path, Path]:
    """The ONNX file and the artifact compiled from it, in `folder`."""
    model = MODELS[name]
    source = pull(name, folder)
    artifact = folder / f"{name}-{target}.edge"
    edgert.compile(source, artifact, target=target, shapes=model.shapes, dims=model.dims)
    return source, artifact


@cache
def pictures(size: int, source: str) -> tuple[tuple[np.ndarray, int], ...]:
    """foolbox's 20 labelled pictures as float32 [1, 3, size, size], prepared as the model's JSON says."""
    from PIL import Image

    about = json.loads(Path(source).with_suffix(".json").read_text())["preprocess"]
    result = []
    for sample in imagenet_samples():
        image = Image.open(io.BytesIO(sample.jpeg)).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
        normal = (pixels - np.float32(about["mean"])) / np.float32(about["std"])
        result.append((np.ascontiguousarray(normal.transpose(2, 0, 1)[None]), sample.label))
    return tuple(result)


def page() -> np.ndarray:
    """A white page with writing on it: float32 [1, 3, 480, 480] in [-1, 1]. Where there is no text the model's answers
    are too small to compare."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (480, 480), "white")
    draw = ImageDraw.Draw(image)
    for i, text in enumerate(["Every buffer", "has its place", "before it runs", "480 x 480"]):
        draw.text((30, 40 + 100 * i), text, fill="black", font=ImageFont.load_default(size=24 + 8 * i))
    return np.ascontiguousarray((np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])


def speech_like(seconds: float = 1.0) -> np.ndarray:
    """A buzz of 120 Hz with formants, as 16-bit samples through a WAV file and back: float32 in [-1, 1]."""
    t = np.arange(int(16000 * seconds)) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30)) * (0.3 + 0.2 * np.sin(2 * np.pi * 4 * t))
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setparams((1, 2, 16000, len(t), "NONE", ""))
        out.writeframes((voice / np.abs(voice).max() * 30000).astype("<i2").tobytes())
    stream.seek(0)
    with wave.open(stream) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def inputs(name: str, source: Path) -> list[dict[str, np.ndarray]]:
    """Real inputs for a model: a file's bytes, sound, pictures, sentences."""
    if name == "magika":
        from compiler.zoo.magika_features import MagikaConfig, features, read_ends

        config = MagikaConfig.read(source.with_suffix(".json"))
        row = features(*read_ends(Path(__file__), config), config)
        assert row is not None
        return [{"bytes": np.asarray(row, np.int32).reshape(1, -1)}]
    if name == "silero-vad":
        sound = speech_like()
        state = np.zeros((2, 1, 128), np.float32)
        return [{"input": sound[None, i : i + 576], "state": state} for i in (0, 4096, 8192)]
    if name == "minilm":
        words = WordPiece(source.parent / "minilm.vocab.txt")
        texts = ["A cat.", "The compiler plans every buffer before the program runs, so nothing is allocated later."]
        return [words.encode(text) for text in [*texts, " ".join(texts * 6)]]
    if name == "ppocr-det":
        return [{"x": page()}]
    return [{"input": x} for x, _ in pictures(224, str(source))]


def session(source: Path) -> ort.InferenceSession:
    """ONNX Runtime on the same file."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
