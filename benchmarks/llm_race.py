"""Two runtimes for language models in turns, each in a process of its own that answers the commands of llm_driver.c."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.llm_texts import texts
from edgert.cli import ONE_THREAD
from edgert.errors import EdgertError
from edgert.llm.text_model import LIKELIEST

PROMPTS = (128, 512)
PAST, DECODED = 64, 128
CONTEXT = 1024
FULL = 512  # tokens of context at which memory is measured
PROMPT = "The history of the city goes back more than two thousand years. " * 5


@dataclass(frozen=True)
class Rival:
    """Who runs: the words of a command line that get THREADS and CONTEXT, and what else; its file. greedy: what else
    where only the likeliest tokens are wanted, if that is not the same."""

    name: str
    command: tuple[str, ...]
    file: Path
    options: tuple[str, ...] = ()
    greedy: tuple[str, ...] = ()

    def start(self, threads: int, context: int = CONTEXT, greedy: bool = False) -> Worker:
        """Its process."""
        options = self.greedy if greedy and self.greedy else self.options
        return Worker([*self.command, str(self.file), str(threads), str(context), *options])


def edgert_rival(artifact: Path) -> Rival:
    """edgert on `artifact`."""
    return Rival("edgert", (sys.executable, "-m", "benchmarks.llm_worker"), artifact, greedy=(LIKELIEST,))


class Worker:
    """A process that answers commands. A context manager: the process ends with it."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe, environment = subprocess.PIPE, os.environ | ONE_THREAD  # as `edgert generate` has it
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)

    def ask(self, command: str) -> dict[str, Any]:
        """The answer. Raises EdgertError with the process's last words where it ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            last = said.splitlines()[-1] if said else f"exit code {self._process.returncode}"
            raise EdgertError(f"{self._process.args!r} failed at {command[:60]!r}: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


@dataclass
class Figures:
    """What was measured of one rival: tokens/s, seconds, bytes. `clock`: "processor" or "wall" time (see `race`).

    greedy: of decoding that takes the likeliest token; decode: of decoding that computes all logits and takes none."""

    model: str
    rival: str
    threads: int
    clock: str
    prefill: dict[int, float] = field(default_factory=dict)
    greedy: float = 0.0
    decode: float = 0.0
    first_seconds: float = 0.0
    memory_bytes: int = 0
    file_bytes: int = 0


def race(model: str, rivals: Sequence[Rival], threads: int, rounds: int) -> list[Figures]:
    """Prefill and decode speed, first token and memory of each rival, the best of `rounds` taken in turns.

    With one thread the processor's time counts, so that what else the machine does does not; with more the wall's. A
    decoded token counts with its best time: each stands at the same place of the same text in every round. Greedy text
    goes on from news, first token and memory are of processes that generate it.
    """
    clock, key = ("processor", "cpu_ns") if threads == 1 else ("wall", "ns")
    found = [Figures(model, r.name, threads, clock, file_bytes=r.file.stat().st_size) for r in rivals]
    best: list[dict[Any, Any]] = [{} for _ in rivals]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workers = [stack.enter_context(rival.start(threads)) for rival in rivals]
        others = [
            stack.enter_context(rival.start(threads, greedy=True)) if rival.greedy else worker
            for rival, worker in zip(rivals, workers, strict=True)
        ]
        asked = [f"greedy {DECODED} {_news(worker, Path(folder, str(i)))}" for i, worker in enumerate(others)]
        for _ in range(rounds):
            for worker, other, greedy, kept in zip(workers, others, asked, best, strict=True):
                for size in PROMPTS:
                    kept[size] = min(kept.get(size, 1 << 62), worker.ask(f"prefill {size}")[key])
                decode = worker.ask(f"decode {PAST} {DECODED}")[key]
                for name, times in (("decode", decode), ("greedy", other.ask(greedy)[key])):
                    kept[name] = [min(pair) for pair in zip(kept.get(name, times), times, strict=True)]
    for _ in range(rounds):
        for rival, kept in zip(rivals, best, strict=True):
            with rival.start(threads, greedy=True) as worker:
                kept["first"] = min(kept.get("first", 1 << 62), worker.ask(f"first {PROMPT}")["cpu_ns"])
    for rival, kept, figures in zip(rivals, best, found, strict=True):
        figures.prefill = {size: size * 1e9 / kept[size] for size in PROMPTS}
        figures.decode, figures.greedy = (DECODED * 1e9 / sum(kept[name]) for name in ("decode", "greedy"))
        figures.first_seconds = kept["first"] / 1e9
        figures.memory_bytes = memory_at_full(rival, threads)
    return found


def _news(worker: Worker, path: Path) -> Path:
    """`path`, with the first PAST tokens of the news."""
    line = next(line for line in texts()["Lee news"].splitlines() if line)
    np.array(worker.ask(f"first {line}")["ids"][:PAST], np.int32).tofile(path)
    return path


def memory_at_full(rival: Rival, threads: int) -> int:
    """The most a process held that tokenized a prompt, then filled a context of FULL tokens."""
    with rival.start(threads, FULL, greedy=True) as worker:
        worker.ask(f"first {PROMPT}")
        worker.ask(f"decode {FULL - DECODED} {DECODED}")
        return int(worker.ask("memory")["bytes"])
