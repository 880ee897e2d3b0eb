"""A model as shaders: a folder of sources, the plan of what to launch on which bytes, weights, and golden data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgert import npy
from edgert.atomic import write_folder

if TYPE_CHECKING:
    from edgert.emit import Output


def write_shaders(o: Output) -> dict[str, Any]:
    """Writes `manifest.json`, `weights.bin`, `kernels/` with a shader each, and `golden/` as an artifact has it.

    An OSError becomes an EdgertError that names the folder, and what stood there stays.
    """

    def write(folder: Path) -> None:
        (folder / "manifest.json").write_text(json.dumps(o.done.manifest, indent=1), encoding="utf-8")
        with (folder / "weights.bin").open("wb") as file:
            file.writelines(o.done.weights())
        members = dict(o.more)
        for side, arrays in (("in", o.feeds), ("out", o.answers)):
            members |= {f"golden/{side}/{npy.file_stem(n)}.npy": npy.to_bytes(a) for n, a in arrays.items()}
        for name, data in members.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    write_folder(o.path, write)
    return o.done.manifest
