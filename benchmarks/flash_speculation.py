"""Guesses beside one token a pass: SmolLM2's program in little memory on prompts to summarise a text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks import flash_runs
from benchmarks.flash_runs import MIB, UNLIMITED, Run
from benchmarks.llm_texts import summarising_prompts
from edgert.errors import EdgertError
from edgert.llm.chat_prompt import chat_ids
from edgert.llm.text_model import open_text_model

BUDGET, TOKENS, GUESSES, PROMPTS, ROUNDS = 48 * MIB, 96, 7, 3, 2


@dataclass(frozen=True)
class Guessed:
    """passes: that made the tokens, the prompts' own not counted. Rates in tokens a second: with guesses, without, and
    of the floor, which no way to make one token a pass exceeds. same: whether the texts are those without a limit."""

    prompts: int
    tokens: int
    passes: int
    rate: float
    plain: float
    floor: float
    same: bool

    @property
    def text(self) -> str:
        """A line of the README."""
        return (
            f"With training-free speculation (`--guess {GUESSES}`: prompt lookup) on {self.prompts} summarising "
            f"prompts in {BUDGET // MIB} MiB, smollm2 makes {self.tokens} tokens in {self.passes} passes, "
            f"{self.rate:.3g} a second: without it {self.plain:.3g}, and the floor of one token a pass is "
            f"{self.floor:.3g}; {'the same texts' if self.same else 'other texts'}.\n"
        )


def measure(edge: Path, program: Path, weights: int) -> Guessed:
    """The best of a few runs of each prompt, in turns, beside the disk's speed. weights: bytes that can be streamed."""
    with open_text_model(edge, 1) as model:
        template = model.chat_template()
        given = [
            chat_ids(model.tokenizer, template, [{"role": "user", "content": p}]) for p in summarising_prompts(PROMPTS)
        ]
    resident, plain, guessed = ([], [], [])  # type: tuple[list[Run], list[Run], list[Run]]
    speeds = []
    for ids in given:
        speeds.append(max(flash_runs.disk(edge, weights).sequential.values()))
        resident.append(_run(program, UNLIMITED, ids, 0))
        tried = [(_run(program, BUDGET, ids, 0), _run(program, BUDGET, ids, GUESSES)) for _ in range(ROUNDS)]
        plain.append(max((a for a, _ in tried), key=lambda r: r.rate))
        guessed.append(max((b for _, b in tried), key=lambda r: r.rate))
    left = max(0, weights - (BUDGET - flash_runs.OTHER))
    floor = 1 / max(left / (sum(speeds) / len(speeds)), 1 / _rate(resident))
    same = all(a.ids == b.ids == c.ids for a, b, c in zip(resident, plain, guessed, strict=True))
    passes = sum(int(dict(r.facts)["runs"]) for r in guessed)
    tokens = sum(len(r.ids) for r in guessed)
    return Guessed(len(given), tokens, passes, _rate(guessed), _rate(plain), floor, same)


def _rate(runs: list[Run]) -> float:
    """Tokens a second of all together."""
    return sum(len(r.ids) - 1 for r in runs) / sum((len(r.ids) - 1) / r.rate for r in runs)


def _run(program: Path, budget: int, ids: list[int], guesses: int) -> Run:
    words = ["--guess", str(guesses)] if guesses else []
    run = flash_runs.edgert_decoding(program, budget, TOKENS, ids, words)
    if not run.rate:
        raise EdgertError(f"{program} on {len(ids)} tokens: {run.note}")
    return run


def load(path: Path) -> Guessed | None:
    """What was measured and kept, if it was."""
    return Guessed(**json.loads(path.read_text())) if path.is_file() else None
