"""How long one run takes, beside ONNX Runtime and OpenVINO: one process, same inputs and threads, taking turns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

import edgert
from benchmarks.cases import Case
from edgert.errors import EdgertError
from edgert.interface.bench import total_macs
from edgert.interface.peers import open_peer
from edgert.interface.race import race
from edgert.interface.verify import compare

PEERS = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Latency:
    """Best milliseconds of each runtime (None where it refuses), and edgert's share of the machine's peak."""

    model: str
    threads: int
    edgert_ms: float
    peers_ms: dict[str, float | None]
    share_of_peak: float
    error: float  # largest difference from ONNX Runtime, as a share of the output's range


def measure(case: Case, threads: int, seconds: float, peak: float) -> Latency:
    """Race the runtimes on `case`; `peak` is what the machine's cores reach in GFLOP/s with so many threads."""
    with edgert.load(case.artifact, threads=threads) as model:
        inputs = model.artifact.golden()[0]
        contenders: dict[str, Callable[[], object]] = {"edgert": lambda: model.run(inputs)}
        for name in PEERS:
            try:
                contenders[name] = open_peer(name, case.onnx, inputs, threads)
            except EdgertError as refusal:
                print(f"{case.name}: {refusal}")
        error = difference(model.run(inputs), contenders)
        times = race(contenders, seconds)
        macs = total_macs(model.manifest)
    ours = times["edgert"].best
    peers = {name: 1e3 * times[name].best if name in times else None for name in PEERS}
    return Latency(case.name, threads, 1e3 * ours, peers, 2 * macs / ours / 1e9 / peak, error)


def difference(ours: Mapping[str, np.ndarray], contenders: dict[str, Callable[[], object]]) -> float:
    """Largest difference of any output from ONNX Runtime's, as a share of that output's range."""
    wanted = contenders["onnxruntime"]()
    assert isinstance(wanted, list)
    return max(compare(name, got, want, 1).relative for (name, got), want in zip(ours.items(), wanted, strict=True))
