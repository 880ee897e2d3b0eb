"""`python -m benchmarks.llm`: language models beside llama.cpp in one run; prints tables, README.md gets them too."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import llama_cpp, llm_perplexity, llm_race, llm_speculation, llm_tables
from benchmarks.cases import FOLDER
from benchmarks.llm_limits import Limits, measure_limits
from benchmarks.llm_race import Figures, Rival, edgert_rival
from benchmarks.readme import update
from edgert.cli.errors import run_safely

MODELS = ("smollm2", "gemma3")
PARTS = ("speed", "perplexity", "speculation")


@click.command()
@click.option("--models", default=",".join(MODELS), show_default=True, help="Only these, with commas.")
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Only these, with commas.")
@click.option("--threads", default="1,2", show_default=True, help="Numbers of threads, with commas.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each runtime; the best counts.")
@click.option("--windows", default=0, help="Windows of each text for perplexity; 0: all.")
@click.option("--reference", is_flag=True, help="Perplexity also by ONNX Runtime in float32.")
@click.option("--alone", is_flag=True, help="Leave llama.cpp out.")
@click.option("--readme/--no-readme", default=False, help="Write the tables of the measured parts to README.md.")
@click.option("--json", "as_json", type=click.Path(dir_okay=False), help="Also write the figures to this file.")
def main(
    models: str, parts: str, threads: str, rounds: int, windows: int, reference: bool, alone: bool, readme: bool,
    as_json: str | None,
) -> None:  # fmt: skip
    """Measure the language models beside llama.cpp."""
    names, wanted = _known(models, MODELS, "--models"), _known(parts, PARTS, "--parts")
    counts = [int(count) for count in threads.split(",")]
    figures: list[Figures] = []
    limits: list[Limits] = []
    scores: list[llm_perplexity.Perplexity] = []
    guesses: list[llm_speculation.Speculation] = []
    for name in names:
        gguf, artifact = _prepare(name)
        rivals = [edgert_rival(artifact)]
        if not alone:
            rivals += [Rival(kind, (str(llama_cpp.driver(kind)),), gguf, ("1",)) for kind in llama_cpp.kinds()]
        for count in counts if "speed" in wanted else []:
            say(f"{name}: {count} thread(s)")
            before = measure_limits(name, artifact, count)
            figures += llm_race.race(name, rivals, count, rounds)
            limits.append(before.better(measure_limits(name, artifact, count)))
        if "perplexity" in wanted:
            say(f"{name}: perplexity")
            scores += llm_perplexity.measure(name, gguf, rivals[:2], windows or None, reference)
        if "speculation" in wanted:
            say(f"{name}: speculation")
            guesses += llm_speculation.measure(name, artifact, rounds)
    tables = {
        "llm-speed": llm_tables.speed(figures, limits, "" if alone else llama_cpp.about()) if figures else "",
        "llm-perplexity": llm_tables.perplexity(scores) if scores else "",
        "llm-speculation": llm_tables.speculation(guesses) if guesses else "",
    }
    for marker, table in tables.items():
        if table:
            print(table)
            if readme:
                update(marker, table)
    if as_json:
        measured: list[Any] = [*figures, *limits, *scores, *guesses]
        rows = [dataclasses.asdict(row) for row in measured]
        Path(as_json).write_text(json.dumps(rows, indent=1, default=_plain), encoding="utf-8")


def _known(given: str, known: tuple[str, ...], option: str) -> list[str]:
    names = given.split(",")
    if strange := sorted(set(names) - set(known)):
        raise click.UsageError(f"{option} {','.join(strange)}: there are {', '.join(known)}")
    return names


def _prepare(name: str) -> tuple[Path, Path]:
    """The .gguf file, pulled where it is missing, and the artifact, compiled afresh."""
    from compiler.zoo import pull
    from edgert.interface.build import build

    gguf, artifact = FOLDER / f"{name}.gguf", FOLDER / f"{name}.bench.edge"
    if not gguf.is_file():
        pull(name, FOLDER)
    say(f"{name}: compiling")
    build(str(gguf), str(artifact), context=llm_race.CONTEXT)
    return gguf, artifact


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)


def say(text: str) -> None:
    """Progress, for people who watch."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.llm")
