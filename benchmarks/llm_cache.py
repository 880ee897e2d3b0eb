"""What ways to keep keys and values cost in memory and in perplexity, and a long stream in constant memory.

`python -m benchmarks.llm_cache [--model gemma3] [--windows N] [--stream TOKENS]` prints Markdown; with `--readme` the
table goes into the README too. The model is fetched and compiled where there is no artifact. The texts are gensim's Lee
news and CPython's `pydoc_data.topics`; every way sees the same windows, scored as `edgert perplexity` does: the tokens
behind the middle. The stream (`--stream 0`: none) is scored whole.
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
from benchmarks.llm_texts import texts
from benchmarks.readme import markdown, update
from compiler.zoo import pull
from edgert.llm.cache import HeavyHitters, Policy, SinksAndWindow
from edgert.llm.cache.pool import PrefixPool
from edgert.llm.engine import CachedEngine, decoder_facts, open_engine
from edgert.llm.perplexity import measure, negative_log_likelihood, windows
from edgert.llm.text_model import QUERIES, open_text_model
from edgert.llm.tokenizer import Tokenizer
from edgert.memory_use import memory
from edgert.units import format_bytes

CONTEXT, WINDOW, LONG = 4096, 512, 2048  # of the cache; of the windows that are scored
PROMPT = 1024  # tokens that a pool gives back
Cuts = dict[str, list[list[int]]]
STRETCH = 2000  # tokens of the stream in one line of its table
POLICIES: dict[str, tuple[str, Policy | None]] = {
    "fp16": ("f16", None),
    "int8": ("i8", None),
    "int4": ("i4", None),
    "int2": ("i2", None),
    "fp16, 4 sinks + window of 252": ("f16", SinksAndWindow(4, 252)),
    "fp16, SnapKV, 256 rows": (QUERIES, HeavyHitters(256)),
    "int2, 4 sinks + window of 252": ("i2", SinksAndWindow(4, 252)),
}
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


def spread(ids: Sequence[int], size: int, count: int | None, bos: int | None) -> list[list[int]]:
    """`count` windows of `size` tokens, evenly over the text, or all."""
    cut = windows(ids, size, bos)
    return cut if count is None else [cut[i] for i in np.linspace(0, len(cut) - 1, count).astype(int)]


def policies_table(cuts: Cuts, path: Path, threads: int) -> str:
    """Bytes and perplexity of everything in POLICIES that the artifact can do."""
    known = {"f16", *edgert.load(path).manifest.get("programs", {})}
    ways = {name: (form, policy) for name, (form, policy) in POLICIES.items() if form in known}
    rows = [(name, *perplexities(cuts, path, threads, *way)) for name, way in ways.items()]
    return compared(cuts, "cache", f"bytes at {CONTEXT:,} tokens", rows)


def weights_table(cuts: Cuts, model: str, path: Path, schemes: Sequence[str], threads: int) -> str:
    """Bytes and perplexity of the file's weights, and in fewer bits."""
    rows = []
    for scheme in ("as in the file", *schemes):
        used = path if scheme == "as in the file" else FOLDER / f"{model}-{CONTEXT}-{scheme}.edge"
        if not used.is_file():
            edgert.compile(pull(model, FOLDER), used, context=CONTEXT, golden=False, quant=scheme)
        _, figures = perplexities(cuts, used, threads, "f16", None)
        rows.append((scheme, int(edgert.load(used).manifest["weights_bytes"]), figures))
    return compared(cuts, "weights", "bytes", rows)


def cuts_of(path: Path, count: int | None) -> Cuts:
    """Windows of both texts and lengths by what a column calls them."""
    with open_text_model(path) as model:
        tokenizer = model.tokenizer
        bos = tokenizer.bos if tokenizer.config["add_bos"] else None
        ids = {name: tokenizer.encode(text, bos=True) for name, text in texts().items()}
    wanted = {WINDOW: count, LONG: None if count is None else max(1, count // 4)}
    cuts = {(name, size): spread(some, size, most, bos) for size, most in wanted.items() for name, some in ids.items()}
    return {f"{name}, {len(cut)} x {size:,} tokens": cut for (name, size), cut in cuts.items()}


def perplexities(
    cuts: Cuts, path: Path, threads: int, form: str, policy: Policy | None
) -> tuple[int, list[float]]:  # fmt: skip
    """Bytes of the cache, and what each of the columns comes to."""
    with open_engine(path, threads, CONTEXT, form, policy) as engine:
        figures = [deque(measure(engine, cut), maxlen=1)[0].perplexity for cut in cuts.values()]
        print(f"... {path.name}, {form}, {policy}: {figures}", flush=True)
        return engine.cache_bytes, figures


def compared(cuts: Cuts, title: str, size: str, rows: Sequence[tuple[str, int, list[float]]]) -> str:
    """The table, each row beside the first."""
    _, most, bases = rows[0]
    lines = [
        [name, f"{count:,}", f"{count / most:.3f}",
         *(f"{value:.2f} ({100 * (value / base - 1):+.1f} %)" for value, base in zip(figures, bases, strict=True))]
        for name, count, figures in rows
    ]  # fmt: skip
    return markdown([title, size, "of the first's", *cuts], lines)


def pools_table(path: Path, ids: Sequence[int], threads: int) -> str:
    """What a prompt takes in every format, and out of a pool."""
    rows: list[list[object]] = []
    for name in ("f16", *edgert.load(path).manifest.get("programs", {})):
        if name != QUERIES:
            with open_engine(path, threads, CONTEXT, name) as engine:
                run, copied = pool_times(engine, ids[: PROMPT + 1])
            rows.append([name, f"{run:.0f}", "" if copied is None else f"{copied:.1f}"])
    return markdown(["cache", f"ms of {PROMPT:,} tokens run", "from the prefix pool"], rows)


def pool_times(engine: CachedEngine, ids: Sequence[int]) -> tuple[float, float | None]:
    """Processor's ms to run all of `ids` but the last, and, where that can be, to copy them out of a pool; the best of
    three."""
    times = []
    for _ in range(3):
        engine.reset()
        begin = time.process_time()
        engine.prefill(ids[:-1])
        ran = time.process_time()
        if not engine.rewinds:
            times.append((1e3 * (ran - begin), 0.0))
            continue
        pool = PrefixPool(engine, engine.chunk, 1 << 30)
        pool.store(ids[:-1], 0, len(ids) - 1)
        engine.reset()
        stored = time.process_time()
        assert pool.load(ids, 0, True) == len(ids) - 1
        times.append((1e3 * (ran - begin), 1e3 * (time.process_time() - stored)))
    return min(run for run, _ in times), min(copied for _, copied in times) or None


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
    parser.add_argument("--model", default="smollm2", help="a name of `edgert pull`: smollm2 or gemma3")
    parser.add_argument("--artifact", type=Path, help="one made of it, with a context of at least 4,096")
    parser.add_argument("--weights", default="q4_0,int4x8", help="schemes of --quant to compare, of .gguf files")
    parser.add_argument("--windows", type=int, default=24, help="of 512 tokens, of each text; 0: all")
    parser.add_argument("--stream", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pool", action="store_true", help="also what a prompt takes, and out of a prefix pool")
    parser.add_argument("--readme", action="store_true")
    given = parser.parse_args()
    path = given.artifact or FOLDER / f"{given.model}-{CONTEXT}.edge"
    if not path.is_file():
        edgert.compile(pull(given.model, FOLDER), path, context=CONTEXT, golden=False)
    cuts = cuts_of(path, given.windows or None)
    tables = [policies_table(cuts, path, given.threads)]
    if given.weights:
        tables.append(weights_table(cuts, given.model, path, given.weights.split(","), given.threads))
    print("\n" + "\n".join(tables))
    if given.readme:
        update(f"llm-cache-{given.model}", f"Perplexity of {given.model}:\n\n" + "\n".join(tables))
    if not given.pool and not given.stream:
        return
    with edgert.load(path) as model:
        decoder_facts(model)
        parts = [bytes(model.artifact.member(name)).decode() for name in ("tokenizer.json", "tokenizer.config.json")]
    ids = Tokenizer(parts[0], json.loads(parts[1])).encode("\n".join(topics.topics.values()))
    if given.pool:
        print("\n" + pools_table(path, ids, given.threads))
    if given.stream:
        print("\n" + stream_table(path, ids[: given.stream], given.threads))


if __name__ == "__main__":
    main()
