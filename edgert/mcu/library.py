"""A static library of a model and its header."""

from __future__ import annotations

import tempfile
from pathlib import Path

from compiler.codegen.link import zig

from .firmware import CFLAGS, FIRMWARE, Model, content_flag, kernel_sources, machine_flags, write_parts


def archive(model: Model, *leave_out: str) -> bytes:
    """libNAME.a: one object for each kernel, the entry, the weights, and what cores without an FPU need.

    leave_out: beginnings of the names of objects that are not wanted.
    """
    with tempfile.TemporaryDirectory(prefix="edgert-") as name:
        folder = Path(name)
        parts = write_parts(model, folder)
        compiled = [part for part in parts if part.endswith(".S")]
        compiled += [str(FIRMWARE / source) for source in kernel_sources(model.target)]
        objects, content = [part for part in parts if part.endswith(".o")], content_flag(folder)
        for source in compiled:
            objects.append(f"{Path(source).name.removesuffix('.c').replace('.', '_')}.o")
            zig("cc", *machine_flags(model.target), *CFLAGS, content, "-g0", "-c", source, "-o", objects[-1],
                cwd=folder)  # fmt: skip
        wanted = [part for part in objects if not part.startswith(leave_out or ("\0",))]
        zig("ar", "rcsD", "lib.a", *wanted, cwd=folder)
        return (folder / "lib.a").read_bytes()


def write_library(model: Model, folder: Path) -> None:
    """libNAME.a and NAME.h; with weights in external flash also their image and what the board has to provide."""
    (folder / f"lib{model.name}.a").write_bytes(archive(model))
    (folder / f"{model.name}.h").write_text(model.header())
    if model.external:
        write_external(model, folder)


def write_external(model: Model, folder: Path) -> None:
    """The image of the weights for an external flash, and the header of what the board has to provide."""
    (folder / "edgert_flash.h").write_text((FIRMWARE / "edgert_flash.h").read_text())
    (folder / f"{model.name}_weights.bin").write_bytes(model.weights)
