"""Time an artifact, also beside other runtimes on the same model, inputs and number of threads."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgert import dtypes
from edgert.deploy.model import RemoteModel
from edgert.errors import UsageError
from edgert.interface.model import is_model, open_model
from edgert.interface.race import race


@dataclass(frozen=True)
class Timed:
    """One runtime: milliseconds per run at best and in the middle, runs timed, and its best over edgert's best."""

    name: str
    best_ms: float
    median_ms: float
    runs: int
    ratio: float


@dataclass(frozen=True)
class BenchResult:
    """What `edgert bench` measured; MACs of one run (0: not known), threads used, and every runtime, edgert first."""

    name: str
    threads: int
    macs: int
    runtimes: list[Timed]


def bench(
    path: str,
    peers: Sequence[str] = (),
    source: str | None = None,
    seconds: float = 2.0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    threads: int | None = None,
    device: str = "local",
    dram: int | str | None = None,
) -> BenchResult:
    """Time `path` for about `seconds` a runtime, taking turns with `peers`.

    The inputs are the artifact's golden ones, or seeded random numbers. Peers run the model at `source`, or the one
    beside the artifact with the same name and hash. Raises UsageError where no such model is found.
    """
    if device.startswith("qemu-user://"):
        raise UsageError(f"{device} is an emulator, whose times are not the device's: `edgert run`, `edgert verify`")
    with open_model(path, shapes or {}, dims or {}, threads, device, dram) as model:
        if "decoder" in model.manifest:
            raise UsageError(f"{path} is a language model: `edgert generate --prompt TEXT --json` tells its speed")
        inputs = model.artifact.golden()[0] or random_inputs(model.manifest)
        if isinstance(model, RemoteModel):
            if peers:
                raise UsageError(f"{', '.join(peers)} cannot be timed on {device}")
            got = model.time(inputs, seconds)
            timed = [Timed("edgert", 1e3 * got.best, 1e3 * got.median, got.calls, 1.0)]
            return BenchResult(model.manifest["name"], model.threads or 0, fixed_macs(model.manifest), timed)
        contenders: dict[str, Callable[[], object]] = {"edgert": lambda: model.run(inputs)}
        if peers:
            from edgert.interface.peers import open_peer

            onnx = find_source(path, source, model.manifest)
            for name in peers:
                contenders[name] = open_peer(name, onnx, inputs, model.threads)
        timings = race(contenders, seconds)
        ours = timings["edgert"].best
        timed = [
            Timed(name, 1e3 * got.best, 1e3 * got.median, got.calls, got.best / ours) for name, got in timings.items()
        ]
        return BenchResult(model.manifest["name"], model.threads, fixed_macs(model.manifest), timed)


def fixed_macs(manifest: Mapping[str, Any]) -> int:
    """Multiply-accumulates of one run; 0 with open dimensions, where the count is the largest size's."""
    return 0 if manifest["dims"] else total_macs(manifest)


def total_macs(manifest: Mapping[str, Any]) -> int:
    """Multiply-accumulates of one run at the largest size of open dimensions, as the compiler counted them."""
    return sum(step.get("macs", 0) for step in manifest["steps"])


def random_inputs(manifest: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs of the largest shapes: floats from a normal distribution, whole numbers 0 and 1."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for entry in manifest["inputs"]:
        shape = [dim["max"] if isinstance(dim, dict) else dim for dim in entry["shape"]]
        dtype = dtypes.array_dtype(entry["dtype"])
        values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        inputs[entry["name"]] = np.asarray(values).astype(dtype)
    return inputs


def find_source(path: str, source: str | None, manifest: Mapping[str, Any]) -> Path:
    """The model that an artifact was made from. Raises UsageError where it is not there or another one."""
    if source is None and is_model(path):
        return Path(path)
    found = Path(source) if source else Path(path).with_suffix(".onnx")
    if not found.is_file():
        raise UsageError(f"--against needs the model that {path} was made from: give it as --model FILE")
    wanted = manifest.get("source", {}).get("sha256")
    if wanted and hashlib.sha256(found.read_bytes()).hexdigest() != wanted:
        raise UsageError(f"{found} is not the model that {path} was made from: give that as --model FILE")
    return found
