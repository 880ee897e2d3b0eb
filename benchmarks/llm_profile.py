"""Where a decoder's time goes, by operator, beside what the memory gives in the same moments.

    python -m benchmarks.llm_profile model.edge [--threads 1] [--past 64] [--tokens 1]

Steps of all layers are added up. For a product the bytes of its weights are known, so its line also has the rate at
which it reads them; `bandwidth` is the best rate of a plain loop over as many bytes between the runs.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgert.llm.engine import CachedEngine, open_engine

# Bits a weight takes in a file with its scales, by the codes in a kernel's name: Q4_0, Q4_1, Q4_K, Q5_0, ...
CODE_BITS = {
    "u4g32": 4.5, "u4g32m": 5.0, "u4g32mk": 4.5, "u5g32": 5.5, "u5g32m": 6.0, "u5g32mk": 5.5, "u6g16k": 6.5625,
    "u8g32": 8.5, "u8g32p": 8.5,
}  # fmt: skip


@dataclass
class Line:
    """Steps of one kind: how many, their time in ns, multiply-adds, and bytes of weights (0: none, or not known)."""

    op: str
    name: str
    kernel: str
    count: int = 0
    ns: int = 0
    macs: int = 0
    weight_bytes: float = 0.0


@dataclass(frozen=True)
class Profile:
    """`run_ns`: the fastest whole run, by the clock; `cpu_ns` by the processor; `bandwidth` in bytes/s."""

    lines: list[Line]
    run_ns: int
    cpu_ns: int
    bandwidth: float


def profile(engine: CachedEngine, past: int = 64, tokens: int = 1, rounds: int = 12) -> Profile:
    """Profile `tokens` tokens at once behind `past`. Rounds alternate steps, whole runs and the plain loop."""
    engine.reset()
    if past:
        engine.prefill(np.arange(past) % 200 + 1000)
    inputs = _inputs(engine, tokens)
    room = {"logits": engine._logits}
    weights = engine.model.manifest["weights_bytes"]
    plain = np.ones(weights // 8, np.uint64)
    steps: list[dict[str, Any]] = []
    run = cpu = read = 1 << 62
    for _ in range(rounds):
        now = engine.model.profile(inputs, 1)
        steps = [min(pair, key=lambda step: step["ns"]) for pair in zip(steps, now, strict=True)] if steps else now
        for _ in range(3):
            start, used = time.perf_counter_ns(), time.process_time_ns()
            engine.model.run(inputs, room)
            run, cpu = min(run, time.perf_counter_ns() - start), min(cpu, time.process_time_ns() - used)
        start = time.process_time_ns()
        np.bitwise_or.reduce(plain)
        read = min(read, time.process_time_ns() - start)
    return Profile(_by_kind(steps, engine, tokens), run, cpu, plain.nbytes / read * 1e9)


def _inputs(engine: CachedEngine, tokens: int) -> dict[str, Any]:
    past = np.array([engine.position], np.int64)
    return {
        "ids": np.arange(tokens, dtype=np.int64) + 300, "positions": past[0] + np.arange(tokens, dtype=np.int64),
        "past": past, "seen": np.tri(tokens, dtype=np.uint8), "rows": np.array([tokens - 1], np.int64), **engine._state,
    }  # fmt: skip


def _by_kind(steps: list[dict[str, Any]], engine: CachedEngine, tokens: int) -> list[Line]:
    found: dict[tuple[str, str, str], Line] = {}
    for step in steps:
        kernel = step.get("kernel", "")
        key = step["op"], re.sub(r"\d+", "*", step["name"], count=1), kernel
        line = found.setdefault(key, Line(*key))
        line.count, line.ns = line.count + 1, line.ns + step["ns"]
        head = step["name"].startswith("scores")
        products = step["macs"] // (engine.wanted if head else engine.chunk)  # rows that the manifest's macs are for
        line.macs += products * (1 if head else tokens)
        codes = re.match(r"gemm_s8(u\d+g\d+[a-z]*)_", kernel)
        if codes and "_and_" not in kernel:  # of two types side by side the shares are not known
            line.weight_bytes += products * CODE_BITS[codes[1]] / 8
    return sorted(found.values(), key=lambda line: -line.ns)


def report(name: str, got: Profile, threads: int, past: int, tokens: int) -> str:
    """The profile as text."""
    total = sum(line.ns for line in got.lines)
    read = sum(line.weight_bytes for line in got.lines)
    head = [
        f"{name}: {tokens} token(s) behind {past}, {threads} thread(s)",
        f"  whole run {got.run_ns / 1e3:.0f} us by the clock, {got.cpu_ns / 1e3:.0f} us of processor time; "
        f"sum of the steps' best {total / 1e3:.0f} us ({tokens * 1e9 / total:.0f} tokens/s)",
        f"  weights read {read / 1e6:.1f} MB: {read / total:.1f} GB/s over all steps; "
        f"a plain loop of that size read {got.bandwidth / 1e9:.1f} GB/s between the runs",
        f"  {'us':>8} {'share':>6} {'steps':>5} {'us each':>8} {'GB/s':>6} {'GMAC/s':>7}",
    ]
    for line in got.lines:
        if line.ns > total / 2000:
            rate = f"{line.weight_bytes / line.ns:6.1f}" if line.weight_bytes else " " * 6
            speed = f"{line.macs / line.ns:7.0f}" if line.weight_bytes else " " * 7
            head.append(
                f"  {line.ns / 1e3:8.0f} {line.ns / total:6.1%} {line.count:5} {line.ns / line.count / 1e3:8.1f} "
                f"{rate} {speed}  {line.name} ({line.op}: {line.kernel})"
            )
    return "\n".join(head)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--past", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=1)
    args = parser.parse_args()
    with open_engine(args.artifact, args.threads) as engine:
        got = profile(engine, args.past, args.tokens)
        print(report(engine.model.manifest["name"], got, args.threads, args.past, args.tokens))


if __name__ == "__main__":
    main()
