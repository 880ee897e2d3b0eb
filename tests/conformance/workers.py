"""Cases in worker processes: one that dies or hangs costs its own case and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from .cases import Case

TIMEOUT = 120.0  # seconds for one case: a compile takes a fraction of one, a hang for ever
PER_WORKER = 150  # cases before a worker is replaced: loaded code is never unloaded

# fork, so that the cases need not be collected once more in each worker; tvm is imported in the workers alone
_CONTEXT = multiprocessing.get_context("fork")


def _serve(cases: Sequence[Case], tasks: Connection) -> None:
    # what a crashing compiler prints is noise beside the verdicts
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    from .verdict import judge

    while (index := tasks.recv()) is not None:
        tasks.send(judge(cases[index]).json())


class _Worker:
    def __init__(self, cases: Sequence[Case]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process: BaseProcess = _CONTEXT.Process(target=_serve, args=(cases, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.index, self.since, self.done = -1, 0.0, 0

    def give(self, index: int) -> None:
        self.index, self.since = index, time.monotonic()
        self.pipe.send(index)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def death(self) -> str:
        """How the process ended."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"exited with {code}"


def run_cases(cases: Sequence[Case], jobs: int) -> Iterator[tuple[int, dict]]:
    """(index, verdict as a dictionary) for every case, in order of completion."""
    waiting = list(range(len(cases)))[::-1]
    workers: list[_Worker] = []

    def start() -> None:
        if waiting:
            worker = _Worker(cases)
            worker.give(waiting.pop())
            workers.append(worker)

    try:
        for _ in range(min(jobs, len(cases))):
            start()
        while workers:
            ready = wait([w.pipe for w in workers], timeout=1.0)
            for worker in list(workers):
                answer = _answer(worker, cases, worker.pipe in ready)
                if answer is None:
                    continue
                yield worker.index, answer
                worker.done += 1
                if worker.process.is_alive() and waiting and worker.done < PER_WORKER:
                    worker.give(waiting.pop())
                else:
                    worker.stop()
                    workers.remove(worker)
                    start()
    finally:
        for worker in workers:
            worker.stop()


def _answer(worker: _Worker, cases: Sequence[Case], ready: bool) -> dict | None:
    """The worker's verdict, or what its death or silence means; None while it works."""
    reason = ""
    if ready:
        try:
            return worker.pipe.recv()
        except (EOFError, OSError):
            reason = worker.death()
    elif time.monotonic() - worker.since > TIMEOUT:
        worker.process.kill()
        worker.process.join()
        reason = f"no answer in {TIMEOUT:.0f} s"
    if not reason:
        return None
    case, seconds = cases[worker.index], round(time.monotonic() - worker.since, 3)
    return {"name": case.name, "operator": case.operator, "verdict": "crashed", "reason": reason, "constant": False,
            "seconds": seconds}  # fmt: skip
