"""`python -m benchmarks.flash`: models in less memory than they need, under the kernel's own limit (a memory cgroup,
page cache included), beside llama.cpp with mmap, a naive loader and the floor. Needs root, for the limit.

What was measured is kept in a file and added to by later runs, so that it can be done in parts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import flash_python, flash_report, flash_runs, flash_speculation, llama_cpp
from benchmarks.cases import FOLDER
from benchmarks.flash_report import Row
from benchmarks.flash_runs import MIB, UNLIMITED, Run, best
from benchmarks.llm import say
from benchmarks.readme import README, update
from edgert import exe
from edgert.artifact import Artifact
from edgert.cli.errors import run_safely
from edgert.errors import EdgertError
from edgert.llm.text_model import LIKELIEST, open_text_model
from flashload.profile import FlashProfile
from flashload.visits import Stream
from targets import host_features
from tests import cgroup

BUDGETS = {"smollm2": (160, 120, 100, 80, 64, 48), "gemma3": (256, 192, 128), "minilm": (80, 60, 40)}
TOKENS = {"smollm2": 160, "gemma3": 64}
SPECULATION, PYTHON = "speculation", "python"  # among the models: SmolLM2 with guesses, and through Python
PROMPT = "The history of the sea is long, and people have told it in many ways. In the"
ENCODED = 32  # tokens of MiniLM's text
PICTURE = README.with_name("docs") / "flash.svg"


@click.command()
@click.option(
    "--models", default=",".join([*BUDGETS, SPECULATION, PYTHON]), show_default=True, help="Only these, with commas."
)
@click.option("--budgets", default="", help="Only these, in MiB, with commas.")
@click.option("--resume", is_flag=True, help="Leave out what is kept already.")
@click.option("--alone", is_flag=True, help="Leave llama.cpp out.")
@click.option("--results", default=str(FOLDER / "flash.json"), show_default=True, help="Figures, kept from run to run.")
@click.option("--readme/--no-readme", default=False, help="Write table and picture from all that is kept.")
def main(models: str, budgets: str, resume: bool, alone: bool, results: str, readme: bool) -> None:
    """Measure models in little memory."""
    if reason := cgroup.unusable():
        raise EdgertError(f"the kernel's limit is needed: {reason}")
    kept = Path(results)
    rows = {(r["model"], r["budget"]): Row(**r) for r in json.loads(kept.read_text())} if kept.is_file() else {}
    guessed = kept.with_suffix(f".{SPECULATION}.json")
    names = [name for name in models.split(",") if name]
    if SPECULATION in names and not (resume and guessed.is_file()):
        _, edge, program = prepare("smollm2")
        found = flash_speculation.measure(edge, program, _streamed(edge))
        say(found.text)
        guessed.write_text(json.dumps(dataclasses.asdict(found)))
    through = kept.with_suffix(f".{PYTHON}.json")
    if PYTHON in names and not (resume and through.is_file()):
        python = flash_python.measure(prepare("smollm2", ("edge",))[1])
        say(flash_python.text(python))
        through.write_text(json.dumps([dataclasses.asdict(row) for row in python]))
    for name in names:
        wanted = [int(b) * MIB for b in budgets.split(",")] if budgets else [b * MIB for b in BUDGETS.get(name, ())]
        left = [b for b in (None, *wanted) if not (resume and (name, b) in rows)] if wanted else []
        if not left:
            continue
        measured = _Model(name, alone)
        with flash_runs.read_ahead(measured.program) as ahead:
            for budget in left:
                row = measured.row(budget)
                say(f"{name} {'no limit' if budget is None else budget // MIB}: {row}")
                rows[name, budget] = row
                kept.write_text(json.dumps([dataclasses.asdict(r) for r in rows.values()], indent=1))
        if ahead != flash_runs.READ_AHEAD_KB:
            say(f"read-ahead is {ahead} KiB, not {flash_runs.READ_AHEAD_KB}: mmap reads more than the table says")
    ordered = sorted(rows.values(), key=lambda r: (list(BUDGETS).index(r.model), -(r.budget or UNLIMITED)))
    text = f"Measured {time.strftime('%Y-%m-%d')} on one thread, from a cold page cache, "
    text += f"the best of {flash_runs.ROUNDS}, read-ahead {flash_runs.READ_AHEAD_KB} KiB.\n\n"
    text += flash_report.table(ordered)
    if (with_guesses := flash_speculation.load(guessed)) is not None:
        text += f"\n{with_guesses.text}"
    if python_rows := flash_python.load(through):
        text += f"\n{flash_python.text(python_rows)}"
    print(text)
    if readme:
        PICTURE.write_text(flash_report.plot(ordered), encoding="utf-8")
        update("flash", f"{text}\n![tokens a second over memory](docs/flash.svg)")


class _Model:
    """A model's program and its peers; what runs without a limit is measured first."""

    def __init__(self, name: str, alone: bool) -> None:
        self.name = name
        self.source, self.edge, self.program = prepare(name)
        artifact = Artifact.open(self.edge)
        self.stream, self.weights = _stream(self.edge), artifact.spec.weights_bytes
        self.place = (artifact.weights_offset, self.weights)
        self.layers = flash_runs.layers_of(dict(artifact.manifest))
        if name in TOKENS:  # what follows text, as it takes less looking than what follows any numbers
            with open_text_model(self.edge, 1) as model:
                self.ids = list(model.tokenizer.encode(PROMPT))
        self.naive = flash_runs.naive_program(FOLDER)
        kind = llama_cpp.NO_AMX if "amx_int8" in host_features() else llama_cpp.PLAIN  # it holds less memory
        self.driver = None if alone or name == "minilm" else llama_cpp.driver(kind)
        self.resident = self._edgert(UNLIMITED)
        if not self.resident.rate:
            raise EdgertError(f"{self.program}: {self.resident.note}")

    def row(self, budget: int | None) -> Row:
        """Everything at one budget, each beside the disk's speed at the time."""
        limit, compute = budget or UNLIMITED, 1 / self.resident.rate
        streamed = self.weights - max(0, limit - flash_runs.OTHER) if budget else self.weights
        before = flash_runs.disk(self.edge, streamed).sequential
        run = self.resident if budget is None else self._edgert(limit)
        after = flash_runs.disk(self.edge, streamed).sequential
        flash = FlashProfile("now", {at: (before[at] + after[at]) / 2 for at in before})
        driver, place = self.driver, (self.edge, self.place, self.layers)
        llama = None if driver is None else best(lambda: flash_runs.llama_decoding(driver, self.source, limit)).rate
        simple = best(lambda: flash_runs.naive(self.naive, *place, compute, limit))
        return Row(
            self.name, budget, self.weights, max(flash.sequential.values()), run.rate,
            dict(run.facts).get("predicted", 0), llama, simple.rate,
            flash_runs.floor(self.stream.resident_bytes + self.stream.streamed_bytes, limit, flash, compute), run.peak,
            run.ids == self.resident.ids, run.note,
        )  # fmt: skip

    def _edgert(self, budget: int) -> Run:
        if self.name in TOKENS:
            return best(lambda: flash_runs.edgert_decoding(self.program, budget, TOKENS[self.name], self.ids))
        return best(lambda: flash_runs.edgert_encoding(self.program, budget, _texts(self.edge), 20))


def _part(edge: Path) -> str | None:
    """Of a language model the program that `edgert compile --emit exe` takes, where there is that choice."""
    return LIKELIEST if LIKELIEST in Artifact.open(edge).manifest.get("programs", {}) else None


def _stream(edge: Path) -> Stream:
    """What the program reads."""
    artifact, part = Artifact.open(edge), _part(edge)
    if part is not None:
        artifact.select(part)
    assert artifact.spec.stream is not None
    return artifact.spec.stream


def _streamed(edge: Path) -> int:
    """Bytes of weights that a floor counts: those that each token needs."""
    stream = _stream(edge)
    return stream.resident_bytes + stream.streamed_bytes


def _texts(edge: Path) -> list[str]:
    """Inputs of MiniLM as .npy files beside it."""
    given = []
    for tensor in Artifact.open(edge).spec.inputs:
        path = edge.with_name(f"minilm.{tensor.name}.npy")
        values = (
            np.ones((1, ENCODED)) if "mask" in tensor.name else np.arange(ENCODED)[None] * (tensor.name[-3:] == "ids")
        )
        np.save(path, values.astype(tensor.dtype))
        given.append(f"{tensor.name}={path}")
    return given


def prepare(name: str, emits: tuple[str, ...] = ("edge", "exe")) -> tuple[Path, Path, Path]:
    """The model, pulled where it is missing; artifact and program, compiled where they are older than edgert."""
    from compiler.zoo import pull
    from edgert.interface.build import build

    source = FOLDER / (f"{name}.gguf" if name in TOKENS else f"{name}.onnx")
    if not source.is_file():
        pull(name, FOLDER)
    edge, program = FOLDER / f"{name}.flash.edge", FOLDER / f"{name}.flash"
    options: dict[str, Any] = {"context": 512} if name in TOKENS else {"dims": {"seq": (1, 128)}}
    parts = [README.parent / part for part in ("compiler", "edgert", "flashload", "targets")]
    files = (path for part in parts for path in part.rglob("*") if path.suffix in (".py", ".c", ".h"))
    newest = max(path.stat().st_mtime for path in files)

    def stale(out: Path) -> bool:
        return not out.is_file() or out.stat().st_mtime < newest

    if stale(edge):
        say(f"{name}: compiling {edge}")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # this one is not to have the model mapped
            pool.submit(build, str(source), str(edge), golden=False, **options).result()
        os.utime(edge)
    if "exe" in emits and (stale(program) or program.stat().st_mtime < edge.stat().st_mtime):
        exe.build(edge, program, _part(edge))
    return source, edge, program


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.flash")
