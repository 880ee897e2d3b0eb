"""What ways to keep keys and values cost in memory and in perplexity, and a long stream in constant memory.

`python -m benchmarks.llm_cache [--artifact M.edge] [--windows N] [--stream TOKENS]` prints Markdown; with `--readme`
the table of formats goes into the README too. SmolLM2 is fetched and compiled where no artifact is given. The text is
CPython's `pydoc_data.topics`; every format sees the same tokens. Windows are scored as `edgert perplexity` does: the
tokens behind the middle. The stream (`--stream 0`: none) is scored whole.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data import topics

import numpy as np

import edgert
from benchmarks.cases import FOLDER
from benchmarks.readme import markdown, update
from compiler.zoo import pull
from edgert.llm.cache import Policy, PrefixPool, SinksAndWindow
from edgert.llm.engine import CachedEngine, decoder_facts, open_engine
from edgert.llm.perplexity import measure, negative_log_likelihood
from edgert.llm.tokenizer import Tokenizer
from edgert.memory_use import memory
from edgert.units import format_bytes

CONTEXT = 2048
PROMPT = 1024  # tokens that a pool gives back
STRETCH = 2000  # tokens of the stream in one line of its table
STREAMS = {  # the paper's experiment, 1,024 rows of cache each
    "4 sinks + 1,020": ("f16", SinksAndWindow(4, 1020)),
    "window of 1,024": ("f16", SinksAndWindow(0, 1024)),
    "4 sinks + 1,020, i4": ("i4", SinksAndWindow(4, 1020)),
}


def losses(engine: CachedEngine, ids: Sequence[int], before: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """-ln p of each of `ids`, and the logits after the last; the first only if the logits `before` it are given."""
    found = []
    for start in range(0, len(ids), engine.wanted):
        some = ids[start : start + engine.wanted]
        after = engine.score(some)
        rows = after[:-1] if before is None else np.concatenate([before[None], after[:-1]])
        found.append(negative_log_likelihood(rows, some[len(some) - len(rows) :]))
        before = after[-1].copy()
    assert before is not None
    return np.concatenate(found), before


def spread(ids: Sequence[int], size: int, count: int) -> list[Sequence[int]]:
    """`count` windows of `size` tokens, evenly over the text."""
    starts = np.linspace(0, len(ids) // size - 1, count).astype(int) * size
    return [ids[start : start + size] for start in starts]


def formats_table(path: Path, ids: Sequence[int], windows: int, threads: int) -> str:
    """Bytes and perplexity of every format in the artifact."""
    names = ["f16", *edgert.load(path).manifest.get("programs", {})]
    short, long = spread(ids, 512, windows), spread(ids, CONTEXT, max(1, windows // 4))
    rows: list[list[object]] = []
    for name in names:
        with open_engine(path, threads, CONTEXT, name) as engine:
            each = engine.cache_bytes // engine.context
            figures = [deque(measure(engine, cut), maxlen=1)[0].perplexity for cut in (short, long)]
            run, copied = pool_times(engine, ids[: PROMPT + 1])
        if not rows:
            first, bases = each, figures
        cells = [f"{value:.3f} ({100 * (value / base - 1):+.2f} %)" for value, base in zip(figures, bases, strict=True)]
        rows.append([name, each, f"{each / first:.3f}", *cells, f"{run:.0f}", f"{copied:.1f}"])
        print(f"... {name}: {figures}", flush=True)
    titles = [f"{len(w)} x {len(w[0]):,} tokens" for w in (short, long)]
    times = [f"ms of {PROMPT:,} tokens run", "from the prefix pool"]
    return markdown(["cache", "bytes a token", "of f16's", *(f"perplexity, {t}" for t in titles), *times], rows)


def pool_times(engine: CachedEngine, ids: Sequence[int]) -> tuple[float, float]:
    """Processor's ms to run all of `ids` but the last, and to copy them out of a pool; the best of three."""
    times = []
    for _ in range(3):
        engine.reset()
        begin = time.process_time()
        engine.prefill(ids[:-1])
        ran = time.process_time()
        pool = PrefixPool(engine, engine.chunk, 1 << 30)
        pool.store(ids[:-1], 0, len(ids) - 1)
        engine.reset()
        stored = time.process_time()
        assert pool.load(ids, 0, True) == len(ids) - 1
        times.append((1e3 * (ran - begin), 1e3 * (time.process_time() - stored)))
    return min(run for run, _ in times), min(copied for _, copied in times)


def stream(path: Path, ids: Sequence[int], threads: int, form: str, policy: Policy) -> Iterator[tuple[float, int]]:
    """Of every stretch: perplexity, and bytes of memory that are the process's own at its end."""
    with open_engine(path, threads, CONTEXT, form, policy) as engine:
        before = None
        for start in range(0, len(ids), STRETCH):
            found, before = losses(engine, ids[start : start + STRETCH], before)
            assert engine.position + engine.forgotten == min(start + STRETCH, len(ids))
            print(f"... {form}, {policy}: {start + len(found):,} tokens, {np.exp(found.mean()):.2f}", flush=True)
            yield float(np.exp(found.mean())), memory()["rss_anon"] or 0


def stream_table(path: Path, ids: Sequence[int], threads: int) -> str:
    """Perplexity along the stream, and memory beside it."""
    columns: list[list[str]] = []
    for form, policy in STREAMS.values():
        done = list(stream(path, ids, threads, form, policy))
        columns += [[f"{value:.2f}" for value, _ in done], [format_bytes(size) for _, size in done]]
    names = [title for name in STREAMS for title in (name, "memory")]
    ends = [f"{min(start + STRETCH, len(ids)):,}" for start in range(0, len(ids), STRETCH)]
    return markdown(["up to token", *names], list(zip(ends, *columns, strict=True)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--stream", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--readme", action="store_true")
    given = parser.parse_args()
    path = given.artifact or FOLDER / f"smollm2-{CONTEXT}.edge"
    if not path.is_file():
        edgert.compile(pull("smollm2", FOLDER), path, context=CONTEXT)
    with edgert.load(path) as model:
        decoder_facts(model)
        parts = [bytes(model.artifact.member(name)).decode() for name in ("tokenizer.json", "tokenizer.config.json")]
    ids = Tokenizer(parts[0], json.loads(parts[1])).encode("\n".join(topics.topics.values()))
    formats = formats_table(path, ids, given.windows, given.threads)
    print("\n" + formats)
    if given.readme:
        update("llm-cache", f"{path.stem}, {given.windows} windows, {given.threads} thread(s)\n\n{formats}")
    if given.stream:
        print("\n" + stream_table(path, ids[: given.stream], given.threads))


if __name__ == "__main__":
    main()
