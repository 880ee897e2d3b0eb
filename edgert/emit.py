"""What a compiled model is written as (`--emit`): for machines with an operating system, and for microcontrollers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.pipeline import Compiled
from edgert import artifact, exe
from edgert.coding import Coder
from edgert.errors import UsageError
from edgert.placing import Placing
from edgert.shaders import write_shaders
from targets.gpu import Gpu
from targets.microcontroller import Microcontroller
from targets.target import Target

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Output:
    """What is to be written to `path`: a compiled model, golden inputs and outputs, further members by name."""

    done: Compiled
    path: Path
    feeds: Arrays
    answers: Arrays
    more: Mapping[str, bytes]
    placing: Placing
    coder: Coder | None = None  # of weights, without loss


Emitter = Callable[[Output], dict[str, Any]]  # gives back the manifest as written


def _edge(o: Output) -> dict[str, Any]:
    return artifact.write(o.path, o.done.manifest, o.done.code, o.done.weights(), o.feeds, o.answers, o.more, o.coder)


def _exe(o: Output) -> dict[str, Any]:
    exe.build_from(o.done.manifest, o.done.code, o.done.weights(), o.path, o.feeds, o.answers)
    return o.done.manifest


EMITTERS: dict[str, Emitter] = {"edge": _edge, "exe": _exe}


def emitter_of(emit: str, target: Target, placing: Placing) -> Emitter:
    """What writes the format `emit` for `target`.

    Raises UsageError, naming the ones there are, and for what the target has no use for.
    """
    if isinstance(target, Microcontroller):
        from edgert.mcu.emit import EMITTERS as emitters
    else:
        placing.for_machines()
        emitters = EMITTERS
        if isinstance(target, Gpu):
            emitters = {"source": write_shaders} if target.source_only else {"edge": _edge}
    if emit not in emitters:
        raise UsageError(f"--emit {emit}: for {target.name} there are {', '.join(emitters)}")
    return emitters[emit]
