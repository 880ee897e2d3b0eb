"""What a model for a microcontroller is written as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from compiler.codegen.c_names import identifier
from compiler.pipeline import Compiled
from edgert import artifact
from edgert.atomic import write_atomic
from edgert.emit import Arrays, Emitter
from targets.boards import get_board
from targets.microcontroller import Microcontroller

from .firmware import Model, link_firmware


def model_of(done: Compiled, feeds: Arrays, answers: Arrays) -> Model:
    """A compiled model as the linker takes it, with its golden inputs and outputs."""
    assert isinstance(done.target, Microcontroller)
    weights = b"".join(bytes(chunk) for chunk in done.weights())
    golden = {f"in/{name}": array for name, array in feeds.items()}
    golden |= {f"out/{name}": array for name, array in answers.items()}
    return Model(identifier(done.manifest["name"]), done.manifest, done.target, done.objects, weights, golden)


def _firmware(done: Compiled, feeds: Arrays, answers: Arrays) -> tuple[bytes, dict[str, Any]]:
    model = model_of(done, feeds, answers)
    board = get_board(model.target.board)
    manifest = {**done.manifest, "board": board.name}
    return link_firmware(replace(model, manifest=manifest), board)[0], manifest


def _edge(done: Compiled, path: Path, feeds: Arrays, answers: Arrays, more: Mapping[str, bytes]) -> dict[str, Any]:
    elf, manifest = _firmware(done, feeds, answers)
    return artifact.write(path, manifest, elf, done.weights(), feeds, answers, more)


def _elf(done: Compiled, path: Path, feeds: Arrays, answers: Arrays, more: Mapping[str, bytes]) -> dict[str, Any]:
    elf, manifest = _firmware(done, feeds, answers)
    write_atomic(path, elf)
    return manifest


EMITTERS: dict[str, Emitter] = {"edge": _edge, "elf": _elf}
