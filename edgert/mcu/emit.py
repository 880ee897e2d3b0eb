"""What a model for a microcontroller is written as: firmware, an artifact with it, or a library in several packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from compiler.codegen.c_names import identifier
from edgert import artifact
from edgert.atomic import write_atomic, write_folder
from edgert.emit import Emitter, Output
from targets.microcontroller import Microcontroller

from .budget import board_for
from .firmware import Model, link_firmware
from .library import write_library
from .packages import write_arduino, write_cmake, write_zephyr
from .source import write_source


def model_of(o: Output) -> Model:
    """A compiled model as the linker takes it, with its golden inputs and outputs."""
    assert isinstance(o.done.target, Microcontroller)
    weights = b"".join(bytes(chunk) for chunk in o.done.weights())
    golden = {f"in/{name}": array for name, array in o.feeds.items()}
    golden |= {f"out/{name}": array for name, array in o.answers.items()}
    name = identifier(o.done.manifest["name"])
    return Model(name, o.done.manifest, o.done.target, o.done.objects, weights, o.done.program, golden)


def _firmware(o: Output) -> tuple[bytes, dict[str, Any]]:
    model = model_of(o)
    board = board_for(model.target, o.placing)
    manifest = {**o.done.manifest, "board": board.name, "stack_bytes": board.stack}
    return link_firmware(replace(model, manifest=manifest), board), manifest


def _edge(o: Output) -> dict[str, Any]:
    elf, manifest = _firmware(o)
    return artifact.write(o.path, manifest, elf, o.done.weights(), o.feeds, o.answers, o.more)


def _elf(o: Output) -> dict[str, Any]:
    elf, manifest = _firmware(o)
    write_atomic(o.path, elf)
    return manifest


def _folder(write: Callable[[Model, Path], None]) -> Emitter:
    """An emitter of a folder, which takes its name when everything is in it."""

    def emit(o: Output) -> dict[str, Any]:
        _firmware(o)  # the library is judged by the firmware around it: whether it links, whether it fits

        def fill(folder: Path) -> None:
            write(model_of(o), folder)
            (folder / "edgert.json").write_text(json.dumps(o.done.manifest, indent=1))

        write_folder(o.path, fill)
        return o.done.manifest

    return emit


EMITTERS: dict[str, Emitter] = {
    "edge": _edge,
    "elf": _elf,
    "lib": _folder(write_library),
    "c": _folder(write_source),
    "cmake": _folder(write_cmake),
    "zephyr": _folder(write_zephyr),
    "arduino": _folder(write_arduino),
}
