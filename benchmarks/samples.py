"""Real inputs for the measured models: pictures, text, sound, files; to calibrate with and to compare runtimes on."""

import io
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.cases import Case
from edgert.interface.facts import find_facts
from edgert.interface.image import fit_image
from edgert.interface.readers import READERS, Request

ROOT = Path(__file__).resolve().parents[1]
Sample = dict[str, np.ndarray]


def samples(case: Case, count: int) -> list[Sample]:
    """The first `count` samples for `case`, always the same."""
    return list(islice(SOURCES[case.name](case), count))


def _pictures(name: str, shape: tuple[int, ...]) -> Callable[[Case], Iterator[Sample]]:
    """ImageNet pictures for the input `name`, prepared as the model's facts say."""

    def read(case: Case) -> Iterator[Sample]:
        from compiler.zoo.samples import imagenet_samples

        request = Request(name, shape, np.dtype(np.float32), find_facts(case.onnx, {}))
        with tempfile.TemporaryDirectory() as folder:
            for image in imagenet_samples():
                path = Path(folder, image.name)
                path.write_bytes(image.jpeg)
                yield from READERS[".jpg"](path, request)

    return read


def _texts(case: Case) -> Iterator[Sample]:
    """Passages of this repository's documents, each as long as the input."""
    from compiler.zoo.wordpiece import WordPiece

    tokenizer = WordPiece(case.onnx.with_suffix(".vocab.txt"))
    tokens = next(iter(case.shapes.values()))[-1]
    for path in sorted(ROOT.glob("*.md")):
        words = path.read_text(encoding="utf-8").split()
        for start in range(0, len(words), tokens):
            found = tokenizer.encode(" ".join(words[start : start + tokens]), tokens)
            if found["input_ids"].shape[-1] == tokens:
                yield {name: found[name] for name in case.shapes}


def _signs(case: Case) -> Iterator[Sample]:
    """ImageNet pictures with lines of text written over them, which is what a detector of text looks for."""
    from PIL import Image, ImageDraw, ImageFont

    from compiler.zoo.samples import imagenet_samples

    ((name, shape),) = case.shapes.items()
    known = find_facts(case.onnx, {}).get("preprocess", {})
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    for number, sample in enumerate(imagenet_samples()):
        image = Image.open(io.BytesIO(sample.jpeg)).convert("RGB").resize((shape[3], shape[2]))
        draw = ImageDraw.Draw(image)
        for line in range(3 + number % 4):
            text = " ".join(words[(number * 8 + line) * 4 :][:4])
            place = (20 + 7 * number, 30 + 70 * line)
            draw.text(place, text, "white", ImageFont.load_default(16 + 4 * line), stroke_width=2, stroke_fill="black")
        yield {name: fit_image(np.asarray(image), shape, np.dtype(np.float32), known)}


def _files(case: Case) -> Iterator[Sample]:
    """Files of this repository, as Magika sees them."""
    ((name, shape),) = case.shapes.items()
    request = Request(name, shape, np.dtype(np.float32), find_facts(case.onnx, {}))
    for path in [*sorted(ROOT.glob("*.*")), *sorted(ROOT.glob("edgert/**/*.[cp]*"))]:
        if path.is_file() and path.stat().st_size > shape[-1]:
            yield from READERS["compiler.zoo.magika_features"](path, request)


def _sound(case: Case) -> Iterator[Sample]:
    """Pieces of a buzz with formants that rises and falls, as a voice does."""
    rate = 16000
    seconds = np.arange(2 * rate) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * seconds) / k for k in range(1, 30))
    voice = (voice * (0.3 + 0.2 * np.sin(2 * np.pi * 4 * seconds))).astype(np.float32)
    voice /= np.abs(voice).max()
    for start in range(0, len(voice) - 576, 512):
        yield {"input": voice[None, start : start + 576], "state": np.zeros((2, 1, 128), np.float32)}


SOURCES: dict[str, Callable[[Case], Iterator[Sample]]] = {
    "mobilenet-v2": _pictures("input", (1, 3, 224, 224)),
    "efficientnet-lite0": _pictures("input", (1, 3, 224, 224)),
    "ppocr-det": _signs,
    "minilm": _texts,
    "magika": _files,
    "silero-vad": _sound,
}
