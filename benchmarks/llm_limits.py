"""What the machine can do at most for a decoder: how fast memory gives weights, how fast the cores multiply bytes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.peak import measure_peak
from benchmarks.peak_kernels import units
from edgert.artifact import Artifact

TIMES = 30


@dataclass(frozen=True)
class Limits:
    """Of one model and number of threads. `bandwidth` bytes/s, `peak` operations/s (a multiply-add counts two)."""

    model: str
    threads: int
    bandwidth: float
    peak: float
    weight_bytes: int  # read for each decoded token
    macs: int  # multiply-adds with weights for each token of a prompt

    def better(self, other: Limits) -> Limits:
        """The higher limits of the two: clocks and neighbours change."""
        return replace(self, bandwidth=max(self.bandwidth, other.bandwidth), peak=max(self.peak, other.peak))

    @property
    def decode(self) -> float:
        """Tokens/s at which the weights would pass at full bandwidth."""
        return self.bandwidth / self.weight_bytes

    @property
    def prefill(self) -> float:
        """Tokens/s at which the products would take the cores' whole time."""
        return self.peak / (2 * self.macs)


def measure_limits(model: str, artifact: Path, threads: int) -> Limits:
    """Bandwidth by a plain loop over as many bytes as the weights have; the peak of the fastest unit for bytes."""
    manifest = Artifact.open(artifact).manifest
    facts = manifest["decoder"]
    products = [step for step in manifest["steps"] if step["op"].endswith("Blocks")]
    macs = sum(step["macs"] for step in products if not step["name"].startswith("scores"))
    peak = measure_peak(threads, unit=units()[-1]) * 1e9
    weights = manifest["weights_bytes"]
    return Limits(model, threads, read_bandwidth(weights, threads), peak, weights, macs // facts["chunk"])


def read_bandwidth(size: int, threads: int) -> float:
    """Bytes/s of the best of many passes over `size` bytes, cut in equal parts among threads.

    One thread is timed by the processor, as benchmarks/llm_race.py does; several by the wall.
    """
    parts = np.array_split(np.ones(size // 8, np.uint64), threads)
    best = float("inf")
    for _ in range(TIMES):
        workers = [threading.Thread(target=np.bitwise_or.reduce, args=(part,)) for part in parts[1:]]
        start = time.process_time() if threads == 1 else time.perf_counter()
        for worker in workers:
            worker.start()
        np.bitwise_or.reduce(parts[0])
        for worker in workers:
            worker.join()
        best = min(best, (time.process_time() if threads == 1 else time.perf_counter()) - start)
    return size / best
