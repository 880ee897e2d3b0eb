"""edgert's side of benchmarks/llm.py in a process of its own: the commands of llm_driver.c, answered alike."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgert.llm.encode_apart import EncodedApart
from edgert.llm.engine import CachedEngine
from edgert.llm.perplexity import measure
from edgert.llm.text_model import KV, LIKELIEST, open_text_model


def main(artifact: str, threads: str, context: str, program: str = KV[0]) -> None:
    """Answer commands until input ends. program: one of KV, or LIKELIEST, which gives no logits: what `edgert generate`
    takes at temperature 0 where the artifact has it."""
    kv, only = (KV[0], True) if program == LIKELIEST else (program, False)
    with open_text_model(artifact, int(threads), kv, None, only) as model, model.engine(int(context)) as engine:
        for line in sys.stdin:
            command, _, rest = line.rstrip("\n").partition(" ")
            if command == "first":
                found = EncodedApart(artifact, rest).ids()  # this and what follows as `edgert generate` does
                assert found is not None
                ids = model.tokenizer.with_bos(found)
                engine.reset()
                model.tokenizer.release()
                token = _likeliest(engine.prefill(ids))
                answer = {"cpu_ns": time.process_time_ns() + _children_ns(), "token": token, "ids": ids}
            else:
                answer = COMMANDS[command](engine, *rest.split())
            print(json.dumps(answer), flush=True)


def made_up(count: int) -> np.ndarray:
    """The tokens that llm_driver.c gives."""
    return (np.arange(count, dtype=np.int64) * 7919 + 100) % 30000


def _prefill(engine: CachedEngine, count: str) -> dict[str, int]:
    ids = made_up(int(count))
    engine.reset()
    return _timed(lambda: engine.prefill(ids))


def _decode(engine: CachedEngine, past: str, count: str) -> dict[str, list[int]]:
    ids = made_up(int(past) + int(count))
    engine.reset()
    engine.prefill(ids[: int(past)])
    times = [_timed(lambda token=token: engine.decode(token)) for token in ids[int(past) :].tolist()]  # type: ignore[misc]
    return {name: [one[name] for one in times] for name in ("ns", "cpu_ns")}


def _nll(engine: CachedEngine, path: str) -> dict[str, float]:
    ids = np.fromfile(path, np.int32)
    *_, score = measure(engine, ids[1:].reshape(-1, ids[0]).tolist())
    return {"nll": score.nll, "tokens": score.tokens}


def _greedy(engine: CachedEngine, count: str, path: str) -> dict[str, Any]:
    ids = np.fromfile(path, np.int32).tolist()
    engine.reset()
    tokens = [_likeliest(engine.prefill(ids))]
    times = [_timed(lambda: tokens.append(_likeliest(engine.decode(tokens[-1])))) for _ in range(int(count))]
    return {**{name: [one[name] for one in times] for name in ("ns", "cpu_ns")}, "tokens": tokens}


def _likeliest(given: np.ndarray) -> int:
    """Of logits [vocab], or as it was told."""
    return int(given.argmax() if given.ndim else given)


def _memory(engine: CachedEngine) -> dict[str, int]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {"bytes": 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))}


def _children_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int(1e9 * (used.ru_utime + used.ru_stime))


def _timed(work: Callable[[], object]) -> dict[str, int]:
    start, used = time.perf_counter_ns(), time.process_time_ns()
    work()
    return {"ns": time.perf_counter_ns() - start, "cpu_ns": time.process_time_ns() - used}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "prefill": _prefill,
    "decode": _decode,
    "nll": _nll,
    "greedy": _greedy,
    "memory": _memory,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
