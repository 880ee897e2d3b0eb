"""One reader for each kind of file that can be a model's input."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgert import npy
from edgert.interface.facts import Facts
from edgert.interface.image import fit_image
from edgert.interface.png import read_png
from edgert.interface.wav import read_wav


class Request(NamedTuple):
    """The input to fill: its name, its largest shape, its type; and what is known of the model."""

    name: str
    shape: Sequence[int]
    dtype: np.dtype
    facts: Facts


# Gives arrays by input name, one dictionary per frame (most files are one frame). Raises ValueError, or UsageError
# where that says more.
Reader = Callable[[Path, Request], list[dict[str, np.ndarray]]]


def _npy(path: Path, request: Request) -> list[dict[str, np.ndarray]]:
    with path.open("rb") as file:
        return [{request.name: npy.read(file, path.stat().st_size, str(path))}]


def _png(path: Path, request: Request) -> list[dict[str, np.ndarray]]:
    return _picture(read_png(path.read_bytes()), request)


def _jpeg(path: Path, request: Request) -> list[dict[str, np.ndarray]]:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ValueError("JPEG files need Pillow: pip install 'edgert[media]'") from None
    try:
        with Image.open(path) as image:
            return _picture(np.asarray(image.convert("RGB")), request)
    except OSError as error:
        raise ValueError(f"not a whole JPEG file ({error})") from None


def _picture(image: np.ndarray, request: Request) -> list[dict[str, np.ndarray]]:
    return [{request.name: fit_image(image, request.shape, request.dtype, request.facts.get("preprocess", {}))}]


def _wav(path: Path, request: Request) -> list[dict[str, np.ndarray]]:
    """Frames of the length that the facts give, each after the context of the frame before; else one frame."""
    samples, rate = read_wav(path.read_bytes())
    known = request.facts.get("preprocess", {})
    if rate != known.get("sample_rate", rate):
        raise ValueError(f"recorded at {rate} Hz, the model wants {known['sample_rate']}")
    frame, context = known.get("frame"), known.get("context", 0)
    if frame is None:
        return [{request.name: _pad(samples, request)}]
    padded = np.zeros(context + -(-max(1, len(samples)) // frame) * frame, np.float32)
    padded[context : context + len(samples)] = samples
    starts = range(0, len(padded) - context, frame)
    return [{request.name: _pad(padded[start : start + context + frame], request)} for start in starts]


def _txt(path: Path, request: Request) -> list[dict[str, np.ndarray]]:
    """Token ids where the facts name a vocabulary, else the UTF-8 bytes as numbers."""
    known = request.facts.get("preprocess", {})
    if "vocabulary" not in known:
        return [{request.name: _pad(np.frombuffer(path.read_bytes(), np.uint8), request)}]
    from compiler.zoo.wordpiece import WordPiece

    vocabulary = Path(request.facts.get("folder", "."), known["vocabulary"])
    if not vocabulary.is_file():
        raise ValueError(f"the model's vocabulary {vocabulary} is missing")
    most = min(request.shape[-1], known.get("max_tokens", request.shape[-1]))
    return [WordPiece(vocabulary).encode(path.read_text(encoding="utf-8"), most)]


def _magika(path: Path, request: Request) -> list[dict[str, np.ndarray]]:
    from compiler.zoo.magika_features import MagikaConfig, features, read_ends

    config = MagikaConfig(**{field: request.facts[field] for field in MagikaConfig.__dataclass_fields__})
    row = features(*read_ends(path, config), config)
    if row is None:
        raise ValueError("too short for the model to judge")
    return [{request.name: row}]


def _pad(values: np.ndarray, request: Request) -> np.ndarray:
    """As many of `values` as the last dimension has room for, zeros after them."""
    if not request.shape or int(np.prod(request.shape)) != request.shape[-1]:
        raise ValueError("fits only inputs with one dimension other than 1, the last")
    out = np.zeros(request.shape[-1], request.dtype)
    out[: len(values)] = values[: len(out)]
    return out.reshape(request.shape)


READERS: dict[str, Reader] = {
    ".npy": _npy,
    ".png": _png,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".wav": _wav,
    ".txt": _txt,
    "compiler.zoo.magika_features": _magika,
}
