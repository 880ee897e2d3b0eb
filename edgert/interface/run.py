"""Run an artifact or a model once on inputs from files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgert import npy
from edgert.atomic import write_atomic
from edgert.errors import EdgertError
from edgert.interface.inputs import gather
from edgert.interface.model import open_model

MOST_VALUES = 1024  # outputs of up to so many elements are printed whole with --json


@dataclass(frozen=True)
class Output:
    """One output: its type, shape and range, its largest values by flat index, the file it went to."""

    name: str
    dtype: str
    shape: list[int]
    min: float | None
    max: float | None
    top: list[tuple[int, float]]
    values: list[Any] | None
    file: str | None


@dataclass(frozen=True)
class RunResult:
    """What `edgert run` found; seconds for loading and for the one run, bytes of the arena."""

    name: str
    load_seconds: float
    run_seconds: float
    arena_bytes: int
    outputs: list[Output]
    profile: list[dict[str, Any]] | None


def run(
    path: str,
    sources: Sequence[tuple[str, str]],
    output: str | None = None,
    profile: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    threads: int | None = None,
    device: str = "local",
) -> RunResult:
    """Run `path` on `sources` (see `inputs.gather`), writing outputs to the folder `output` as NAME.npy.

    Raises UsageError for wrong inputs, and whatever loading or compiling raises.
    """
    start = time.perf_counter()
    with open_model(path, shapes or {}, dims or {}, threads, device) as model:
        loaded = time.perf_counter()
        inputs = gather(sources, model.manifest)
        begin = time.perf_counter()
        results = model.run(inputs)
        end = time.perf_counter()
        steps = list(model.profile(inputs)) if profile else None
        files = write_outputs(results, output) if output else {}
        outputs = [_summary(name, array, files.get(name)) for name, array in results.items()]
        manifest = model.manifest
        return RunResult(manifest["name"], loaded - start, end - begin, manifest["arena_bytes"], outputs, steps)


def write_outputs(arrays: Mapping[str, np.ndarray], folder: str) -> dict[str, str]:
    """Write each array to `folder` (made where it is missing), whole or not at all; the file of each by name."""
    where = Path(folder)
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgertError(f"cannot make the folder {folder}: {error.strerror}") from None
    files = {}
    for name, array in arrays.items():
        file = where / f"{npy.file_stem(name)}.npy"
        write_atomic(file, npy.to_bytes(array))
        files[name] = str(file)
    return files


def _summary(name: str, array: np.ndarray, file: str | None) -> Output:
    flat = array.reshape(-1)
    real = flat.dtype.kind in "biuf" and flat.size > 0
    top = list(np.argsort(-flat.astype(np.float64), kind="stable")[:5]) if real else []
    return Output(
        name=name,
        dtype=str(array.dtype),
        shape=list(array.shape),
        min=float(flat.min()) if real else None,
        max=float(flat.max()) if real else None,
        top=[(int(i), float(flat[i])) for i in top],
        values=array.tolist() if real and flat.size <= MOST_VALUES else None,
        file=file,
    )
