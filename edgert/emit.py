"""What a compiled model is written as (`--emit`): for machines with an operating system, and for microcontrollers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compiler.pipeline import Compiled
from edgert import artifact, exe
from edgert.errors import UsageError
from targets.microcontroller import Microcontroller
from targets.target import Target

Arrays = Mapping[str, np.ndarray]
# (what was compiled, where to, golden inputs, golden outputs, further members) -> the manifest as written
Emitter = Callable[[Compiled, Path, Arrays, Arrays, Mapping[str, bytes]], dict[str, Any]]


def _edge(done: Compiled, path: Path, feeds: Arrays, answers: Arrays, more: Mapping[str, bytes]) -> dict[str, Any]:
    return artifact.write(path, done.manifest, done.code, done.weights(), feeds, answers, more)


def _exe(done: Compiled, path: Path, feeds: Arrays, answers: Arrays, more: Mapping[str, bytes]) -> dict[str, Any]:
    exe.build_from(done.manifest, done.code, done.weights(), path, feeds, answers)
    return done.manifest


EMITTERS: dict[str, Emitter] = {"edge": _edge, "exe": _exe}


def emitter_of(emit: str, target: Target) -> Emitter:
    """What writes the format `emit` for `target`. Raises UsageError, naming the ones there are."""
    if isinstance(target, Microcontroller):
        from edgert.mcu.emit import EMITTERS as emitters
    else:
        emitters = EMITTERS
    if emit not in emitters:
        raise UsageError(f"--emit {emit}: for {target.name} there are {', '.join(emitters)}")
    return emitters[emit]
