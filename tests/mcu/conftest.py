"""The small network compiled for the laptop and, once each, for the cores that tests ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import edgert
from tests.mcu import nets

Firmware = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def firmware(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The network's ELF file for a core."""
    folder = tmp_path_factory.mktemp("firmware")

    @cache
    def made(core: str) -> Path:
        path = folder / f"{core}.elf"
        edgert.compile(tiny, path, target=core, emit="elf")
        return path

    return made
