"""One measurement of benchmarks/flash.py each: a program under the kernel's limit of memory, from a cold page cache."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgert.interface.flash_profile import timed_reads
from flashload.profile import FlashProfile
from tests import cgroup

MIB = 1 << 20
BLOCKS = ((256 << 10, 1), (512 << 10, 4), (1 << 20, 4))
SLICES, SLICE = 4, 0.25  # measurements of a block size, seconds of each: disks that others use drift
READ_AHEAD_KB = 128  # Linux's own default; some machines have several MiB, which mmap suffers from
DECODED, PAST = 24, 8  # tokens that llama.cpp decodes behind so many
OTHER = 10 * MIB  # of the floor: memory beside weights
UNLIMITED = 1 << 40
ROUNDS = 2  # of each at each budget


@dataclass(frozen=True)
class Run:
    """rate: tokens (or inferences) a second, 0 when it did not run. peak: bytes of the whole group with page cache."""

    rate: float
    peak: int | None
    note: str = ""
    ids: tuple[int, ...] = ()
    facts: tuple[tuple[str, float], ...] = ()


def best(run: Callable[[], Run]) -> Run:
    """The fastest of ROUNDS runs with the highest peak of all; one that did not run, if any."""
    runs = [run() for _ in range(ROUNDS)]
    chosen = max(runs, key=lambda r: (not r.rate, r.rate))
    return replace(chosen, peak=max((r.peak for r in runs if r.peak is not None), default=None))


def disk(path: Path, most: int = UNLIMITED) -> FlashProfile:
    """How fast the first `most` bytes of `path` are read now, past the page cache, again and again: that drifts, so it
    is measured beside every run, and depends on how many bytes those are, as disks and hosts have caches."""
    size = min(max(most, 16 * MIB), path.stat().st_size) // MIB * MIB
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        found = {at: [timed_reads(descriptor, size, *at, False, SLICE) for _ in range(SLICES)] for at in BLOCKS}
    finally:
        os.close(descriptor)
    return FlashProfile("now", {at: sum(b for b, _ in reads) / sum(s for _, s in reads) for at, reads in found.items()})


def edgert_decoding(program: Path, budget: int, tokens: int, ids: Sequence[int], more: Sequence[str] = ()) -> Run:
    """The program of --emit exe: token ids in and out, one thread, a cache as large as it has to be."""
    words = ["--ids", ",".join(map(str, ids)), "--max-tokens", str(tokens), "--ignore-end", *more]
    done = _limited([str(program), *words, "--threads", "1", "--json"], budget, program)
    if done.returncode:
        return Run(0, done.peak, _why(done))
    data = json.loads(done.stdout)
    facts = [(k, float(v)) for k, v in data.items() if isinstance(v, int | float)]
    facts += [("predicted", rate) for key, rate in facts if key == "predicted_runs_per_second"]
    return Run(data["tokens_per_second"], done.peak, "", tuple(data["ids"]), tuple(facts))


def edgert_encoding(program: Path, budget: int, inputs: Sequence[str], runs: int) -> Run:
    """The program of --emit exe on .npy inputs."""
    words = [word for text in inputs for word in ("--input", text)]
    done = _limited([str(program), *words, "--threads", "1", "--time", str(runs), "--json"], budget, program)
    if done.returncode:
        return Run(0, done.peak, _why(done))
    data = json.loads(done.stdout.splitlines()[-1])
    facts = (("predicted", 1e3 / data["predicted_ms"]),) if "predicted_ms" in data else ()
    return Run(1e3 / data["median_ms"], done.peak, facts=facts)


def llama_decoding(driver: Path, gguf: Path, budget: int) -> Run:
    """llama.cpp with mmap; weights are not repacked, which would copy them."""
    shell = f"echo decode {PAST} {DECODED} | exec {driver} {gguf} 1 128 0"
    done = cgroup_run(["/bin/sh", "-c", shell], budget, gguf)
    if done.returncode:
        return Run(0, done.peak, _why(done))
    times = json.loads(done.stdout.splitlines()[-1])["ns"]
    return Run(len(times) * 1e9 / sum(times), done.peak)


def naive(program: Path, model: Path, place: tuple[int, int], layers: int, compute: float, budget: int) -> Run:
    """Read a layer, compute, free: its reads measured, and the seconds that the resident run computes added."""
    words = [str(program), str(model), *map(str, place), str(layers), "6"]
    done = cgroup_run(words, budget, model)
    if done.returncode:
        return Run(0, done.peak, _why(done))
    return Run(1 / (statistics.mean(map(float, done.stdout.split()[1:])) + compute), done.peak)


def floor(weights: int, budget: int, flash: FlashProfile, compute: float) -> float:
    """Runs a second when all memory but 10 MiB holds weights and the rest is read at the disk's best, or computing
    takes longer."""
    left = max(0, weights - max(0, budget - OTHER))
    return 1 / max(left / max(flash.sequential.values()), compute)


def naive_program(folder: Path) -> Path:
    """flash_naive.c, compiled."""
    from edgert.native.build import zig_cc

    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "naive"
    zig_cc(["-O2", "-o", str(program), str(Path(__file__).with_name("flash_naive.c"))])
    return program


def cgroup_run(command: Sequence[str], budget: int, model: Path) -> cgroup.Limited:
    """`command` under the limit, the model's pages not yet in memory."""
    cgroup.forget(model)
    return cgroup.run_limited(command, min(budget, 64 << 30), timeout=120)


def _limited(command: Sequence[str], budget: int, model: Path) -> cgroup.Limited:
    return cgroup_run([*command, *([] if budget == UNLIMITED else ["--dram", str(budget)])], budget, model)


def _why(done: cgroup.Limited) -> str:
    return "killed" if done.killed else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]


@contextmanager
def read_ahead(path: Path) -> Any:
    """Linux's default read-ahead for the device of `path` in the block, where that may be set; gives KiB."""
    device = path.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        before = int(setting.read_text())
    except OSError:
        yield None
        return
    try:
        with suppress(OSError):
            setting.write_text(str(READ_AHEAD_KB))
        yield int(setting.read_text())
    finally:
        with suppress(OSError):
            setting.write_text(str(before))


def layers_of(manifest: dict[str, Any]) -> int:
    """Layers of a decoder, with its head as one more; 12 for others."""
    return int(manifest["decoder"]["layers"]) + 1 if "decoder" in manifest else 12
