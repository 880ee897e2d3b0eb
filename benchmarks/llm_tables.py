"""The tables of language models, as Markdown."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from itertools import groupby

from benchmarks.llm_limits import Limits
from benchmarks.llm_perplexity import WINDOW, Perplexity
from benchmarks.llm_race import DECODED, FULL, PAST, PROMPTS, Figures
from benchmarks.llm_speculation import ITEMS, TOKENS, Speculation
from benchmarks.readme import markdown
from edgert.interface.devices import cpu_name


def speed(figures: Sequence[Figures], limits: Sequence[Limits], against: str) -> str:
    """Tokens/s with shares of the limits, first token, memory; then each rival's ratio to edgert."""
    columns = ["model", "threads", "", *(f"prefill {size}" for size in PROMPTS), "of peak", "greedy", "all logits",
               "of bandwidth", "first token s", "memory MB", "file MB"]  # fmt: skip
    bounds = {(limit.model, limit.threads): limit for limit in limits}
    rows: list[list[object]] = []
    for (model, threads), group in groupby(figures, lambda row: (row.model, row.threads)):
        bound, several = bounds[model, threads], list(group)
        for row in several:
            rows.append([
                model, threads, row.rival, *(f"{row.prefill[size]:,.0f}" for size in PROMPTS),
                f"{row.prefill[PROMPTS[-1]] / bound.prefill:.1%}", f"{row.greedy:.0f}", f"{row.decode:.0f}",
                f"{row.decode / bound.decode:.0%}", f"{row.first_seconds:.2f}", f"{row.memory_bytes / 1e6:.0f}",
                f"{row.file_bytes / 1e6:.0f}",
            ])  # fmt: skip
        for other in several[1:]:
            ours = several[0]
            rows.append([
                model, threads, f"edgert / {other.rival}",
                *(f"{ours.prefill[size] / other.prefill[size]:.2f}" for size in PROMPTS), "",
                f"{ours.greedy / other.greedy:.2f}", f"{ours.decode / other.decode:.2f}", "",
                f"{ours.first_seconds / other.first_seconds:.2f}",
                f"{ours.memory_bytes / other.memory_bytes:.2f}", f"{ours.file_bytes / other.file_bytes:.2f}",
            ])  # fmt: skip
    clocks = ", ".join(
        f"{threads} thread(s): {clock} time" for threads, clock in sorted({(f.threads, f.clock) for f in figures})
    )
    head = (
        f"Measured {datetime.date.today().isoformat()} on {cpu_name()}"
        + (f" against {against}" if against else "")
        + f"; best of several in turns ({clocks}; load {os.getloadavg()[0]:.1f}). Tokens/s; greedy is decoding of "
        f"{DECODED} tokens behind {PAST} of a news item, each the likeliest, as `edgert generate` does at temperature "
        f"0; all logits is decoding that computes those of {DECODED} given tokens. Limits measured beside: "
        + "; ".join(
            f"{limit.model} with {limit.threads}: {limit.bandwidth / 1e9:.1f} GB/s, hence {limit.decode:.0f} tokens/s, "
            f"{limit.peak / 1e12:.2f} int8 Top/s, hence {limit.prefill:,.0f}"
            for limit in limits
        )
        + f". First token: processor time of a fresh process. Memory: the whole process at {FULL} tokens of context."
    )
    return f"{head}\n\n{markdown(columns, rows)}"


def perplexity(scores: Sequence[Perplexity]) -> str:
    """A row for each model and text, a column for each who measured."""
    who = list(scores[0].by)
    others = who[1:]
    columns = ["model", "text", "windows", "tokens scored", *who, *(f"edgert to {name}" for name in others)]
    rows = [
        [
            s.model, s.text, s.windows, f"{s.tokens:,}", *(f"{s.by[name]:.3f}" for name in who),
            *(f"{s.by['edgert'] / s.by[name] - 1:+.2%}" for name in others),
        ]
        for s in scores
    ]  # fmt: skip
    head = f"Perplexity on the same windows of {WINDOW} tokens; scored is the second half of each."
    return f"{head}\n\n{markdown(columns, rows)}"


def speculation(found: Sequence[Speculation]) -> str:
    """A row for each model and way to guess."""
    plain = {row.model: row.rate for row in found if row.way == "none"}
    columns = ["model", "--speculate", "tokens/s", "ratio", "guesses that held", "tokens a pass", "same text"]
    rows = [
        [
            r.model, r.way, f"{r.rate:.0f}", f"{r.rate / plain[r.model]:.2f}", f"{r.acceptance:.0%}",
            f"{r.tokens_per_pass:.2f}", "yes" if r.same else "no",
        ]
        for r in found
    ]  # fmt: skip
    head = f"At most {TOKENS} tokens after each of {ITEMS} prompts to summarise a news item, one thread, temperature 0."
    return f"{head}\n\n{markdown(columns, rows)}"
