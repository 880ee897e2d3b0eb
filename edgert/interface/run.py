"""Run an artifact or a model once on inputs from files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgert import npy
from edgert.atomic import write_atomic
from edgert.deploy.model import RemoteModel
from edgert.errors import EdgertError, UsageError
from edgert.interface.counted import Counted, cost_of
from edgert.interface.emulated import EmulatedModel
from edgert.interface.facts import Facts, find_facts
from edgert.interface.inputs import gather
from edgert.interface.model import open_model
from edgert.interface.simulated import SimulatedModel
from edgert.runner import Model

PROFILE_RUNS = 20  # a step's time is its best of so many
MOST_VALUES = 1024  # outputs of up to so many elements are printed whole with --json


@dataclass(frozen=True)
class Top:
    """One of the largest values of an output, at its flat index; with its label where the model has labels."""

    index: int
    value: float
    label: str | None


@dataclass(frozen=True)
class Output:
    """One output: its type, shape and range, its largest values, all of them if few, the file it went to."""

    name: str
    dtype: str
    shape: list[int]
    min: float | None
    max: float | None
    top: list[Top]
    values: list[Any] | None
    file: str | None


@dataclass(frozen=True)
class RunResult:
    """What `edgert run` found; seconds for loading and for a run, runs (one per frame), bytes of the arena."""

    name: str
    load_seconds: float
    run_seconds: float
    runs: int
    arena_bytes: int
    outputs: list[Output]
    profile: list[dict[str, Any]] | None
    cost: Counted | None = None  # on a simulated microcontroller, in place of times


def run(
    path: str,
    sources: Sequence[tuple[str, str]],
    output: str | None = None,
    profile: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    threads: int | None = None,
    device: str = "local",
    dram: int | str | None = None,
) -> RunResult:
    """Run `path` on `sources` (see `inputs.gather`), writing outputs to the folder `output` as NAME.npy.

    Raises UsageError for wrong inputs, and whatever loading or compiling raises.
    """
    start = time.perf_counter()
    with open_model(path, shapes or {}, dims or {}, threads, device, dram) as model:
        loaded = time.perf_counter()
        manifest = model.manifest
        if "decoder" in manifest:
            raise UsageError(f"{path} is a language model: `edgert generate` runs it")
        facts = find_facts(path, manifest)
        frames = gather(sources, manifest, facts)
        begin = time.perf_counter()
        results = run_frames(model, frames, facts)
        end = time.perf_counter()
        steps = list(model.profile(frames[0], PROFILE_RUNS)) if profile else None
        cost = cost_of(model, steps or []) if isinstance(model, SimulatedModel) else None
        # how long a simulator or an emulator takes says nothing of the device
        untimed = cost is not None or isinstance(model, EmulatedModel)
        if steps and (model.manifest["dims"] or isinstance(model, EmulatedModel)):
            # with open dimensions counted for the largest size, not for this run; of an emulator there is no rate
            steps = [{**step, "macs": 0} for step in steps]
        files = write_outputs(results, output) if output else {}
        labels = facts.get("labels", [])
        outputs = [_summary(name, array, files.get(name), labels) for name, array in results.items()]
        ran = model.seconds if isinstance(model, RemoteModel) else end - begin  # there, without the way
        seconds = (loaded - start, float("nan") if untimed else ran / len(frames))
        return RunResult(manifest["name"], *seconds, len(frames), manifest["arena_bytes"], outputs, steps, cost)


def run_frames(model: Model, frames: Sequence[Mapping[str, np.ndarray]], facts: Facts) -> dict[str, np.ndarray]:
    """Outputs of a run per frame, the state that `facts` name handed on from each to the next.

    Of several frames the outputs are stacked along a new first dimension.
    """
    state = facts.get("state", {})
    source, target = state.get("output"), state.get("input")
    results: list[dict[str, np.ndarray]] = []
    for frame in frames:
        carried = {target: results[-1][source]} if results and source in results[-1] else {}
        results.append(model.run({**frame, **carried}))
    if len(results) == 1:
        return results[0]
    return {name: np.stack([result[name] for result in results]) for name in results[0]}


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


def _summary(name: str, array: np.ndarray, file: str | None, labels: Sequence[str]) -> Output:
    flat = array.reshape(-1)
    real = flat.dtype.kind in "biuf" and flat.size > 0
    top = list(np.argsort(-flat.astype(np.float64), kind="stable")[:5]) if real else []
    return Output(
        name=name,
        dtype=str(array.dtype),
        shape=list(array.shape),
        min=float(flat.min()) if real else None,
        max=float(flat.max()) if real else None,
        top=[Top(int(i), float(flat[i]), labels[i] if len(labels) == flat.size else None) for i in top],
        values=array.tolist() if real and flat.size <= MOST_VALUES else None,
        file=file,
    )
