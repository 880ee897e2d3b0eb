"""Real inputs with known answers, out of a package: for measuring accuracy, not needed to pull a model."""

import re
import zipfile
from dataclasses import dataclass

from compiler.zoo.fetch import Progress, fetch_wheel
from compiler.zoo.model import Wheel

FOOLBOX = Wheel(
    project="foolbox",
    version="3.3.4",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    nbytes=1677112,
)


@dataclass(frozen=True)
class LabelledImage:
    """One picture: its file name, its class (ImageNet's 0 to 999), the bytes of the JPEG file."""

    name: str
    label: int
    jpeg: bytes


def imagenet_samples(progress: Progress | None = None) -> list[LabelledImage]:
    """The 20 labelled ImageNet pictures that foolbox ships, by index. Raises EdgertError as `fetch_wheel` does."""
    with zipfile.ZipFile(fetch_wheel(FOOLBOX, progress)) as archive:
        found = [(re.fullmatch(r"foolbox/data/(imagenet_\d+_(\d+)\.jpg)", name), name) for name in archive.namelist()]
        return sorted(
            (LabelledImage(match[1], int(match[2]), archive.read(name)) for match, name in found if match),
            key=lambda image: image.name,
        )
