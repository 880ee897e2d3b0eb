"""Measure how well a language model predicts a file's text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from edgert.interface.language import Progress, open_language_model
from edgert.interface.texts import read_text
from edgert.llm.perplexity import Score, measure, windows
from edgert.memory_use import memory
from edgert.units import format_bytes


@dataclass(frozen=True)
class PerplexityResult:
    """What `edgert perplexity` found. `error` is the standard error; tokens_per_second counts all that were run."""

    name: str
    threads: int
    kv: str
    text: str
    text_tokens: int
    window: int
    windows: int
    tokens_scored: int
    perplexity: float
    error: float
    seconds: float
    tokens_per_second: float
    cache_bytes: int
    arena_bytes: int
    memory: dict[str, int | None]


def perplexity(
    path: str,
    text: str,
    window: int = 512,
    every: bool = False,
    most_windows: int | None = None,
    threads: int | None = None,
    kv: str = "f16",
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
    dram: int | str | None = None,
) -> PerplexityResult:
    """Score the UTF-8 file `text` with the language model at `path` in windows of `window` tokens, the first
    `most_windows` of them; see edgert.llm.perplexity for the rules. every: all tokens, not only the second halves.

    Raises UsageError for a text shorter than a window or a window that the artifact has no context for, and what
    loading, compiling and reading raise.
    """
    with open_language_model(path, threads, kv, say, progress, dram) as model:
        tokenizer = model.tokenizer
        # Without the line end that closes a file, as llama.cpp reads it
        ids = tokenizer.encode(read_text(text).removesuffix("\n"), bos=True)
        tokenizer.release()
        cut = windows(ids, window, tokenizer.bos if tokenizer.config["add_bos"] else None)[:most_windows]
        score = Score()
        with model.engine(window) as engine:
            begin = time.perf_counter()
            for score in measure(engine, cut, every):
                if progress is not None:
                    progress(f"perplexity {score.perplexity:.2f}", score.windows, len(cut))
            seconds = time.perf_counter() - begin
            return PerplexityResult(
                name=engine.model.manifest["name"],
                threads=engine.model.threads,
                kv=kv,
                text=text,
                text_tokens=len(ids),
                window=window,
                windows=score.windows,
                tokens_scored=score.tokens,
                perplexity=score.perplexity,
                error=score.error,
                seconds=seconds,
                tokens_per_second=score.windows * (window - 1) / seconds,
                cache_bytes=engine.cache_bytes,
                arena_bytes=engine.model.arena_bytes,
                memory=memory(),
            )


def perplexity_text(result: PerplexityResult) -> None:
    """A few lines for people."""
    click.echo(f"{result.name} on {result.text}: perplexity {result.perplexity:.4f} +/- {result.error:.4f}")
    counts = f"{result.tokens_scored} tokens scored in {result.windows} windows of {result.window}"
    click.echo(f"{counts}, of {result.text_tokens} in the text")
    speed = f"{result.tokens_per_second:.1f} tokens/s, {result.seconds:.1f} s, threads: {result.threads}"
    click.echo(f"{speed}; memory: peak {format_bytes(result.memory['peak_rss'] or 0)}")
