"""Tuning records: the best tiles found for a kernel's shape on a kind of machine. Shipped ones, then the user's own."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from compiler.codegen.cache import cache_dir
from targets.kernels.registry import Call
from targets.kernels.tensor import Tensor
from targets.target import Target

SHIPPED = Path(__file__).parents[2] / "targets" / "kernels" / "records"


def call_key(call: Call) -> str:
    """What a record is filed under: the operator, its attributes, and the shapes and types of its inputs."""
    attrs = {k: v for k, v in sorted(call.attrs.items()) if isinstance(v, int | float | str | list | tuple)}
    inputs = ",".join("-" if t is None else f"{t.dtype}{_shape(t)}{'c' if t.data else ''}" for t in call.inputs)
    return f"{call.op} {json.dumps(attrs, separators=(',', ':'))} {inputs}"


def _shape(t: Tensor) -> str:
    return "[" + "x".join(str(d) if isinstance(d, int) else "?" for d in t.shape) + "]"


class Records:
    """The records for one target; looked up by call."""

    def __init__(self, target: Target, folder: Path | None = None, file: Path | None = None) -> None:
        """folder: of the user's own (default: in the cache). file: those of this file, and no others."""
        own = folder or cache_dir() / "records"
        self.path = file or own / f"{target.name}.json"
        self.found: dict[str, dict[str, Any]] = {}
        if file is not None:
            self.merge(file)
            return
        names = [f"{name}.json" for name in (target.base, target.name) if name]
        for path in (place / name for name in names for place in (SHIPPED, own)):
            self.merge(path)

    def __call__(self, call: Call) -> dict[str, int]:
        """The tiles on record for `call`; empty when there are none."""
        record = self.found.get(call_key(call))
        return dict(record["config"]) if record else {}

    def add(self, call: Call, config: dict[str, int], best: float, default: float, unit: str = "us") -> None:
        """Keeps the best tiles and what they and the untuned ones took: microseconds, or `instructions`."""
        self.found[call_key(call)] = {"config": config, unit: round(best, 2), f"default_{unit}": round(default, 2)}

    def merge(self, path: Path) -> None:
        """Takes the records of a file over what is known. A damaged file costs speed, not the compile."""
        with contextlib.suppress(OSError, ValueError):
            loaded = json.loads(path.read_text())
            self.found |= {k: v for k, v in loaded.items() if isinstance(v, dict) and isinstance(v.get("config"), dict)}

    def save(self, path: Path | None = None) -> None:
        """Writes all records, whole or not at all."""
        path = path or self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(dict(sorted(self.found.items())), file, indent=0)
        os.replace(name, path)
