"""Decoding with guesses beside decoding without: the same text, how much faster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.llm_texts import summarising_prompt
from edgert.interface.generate import SPECULATION
from edgert.llm.chat_prompt import chat_ids
from edgert.llm.generate import Generation, Options
from edgert.llm.sampling import SamplingOptions
from edgert.llm.text_model import open_text_model


@dataclass(frozen=True)
class Speculation:
    """One way to guess: tokens/s, guesses that held, tokens a pass gave, and whether the text is that without it."""

    model: str
    way: str
    tokens: int
    rate: float
    acceptance: float
    tokens_per_pass: float
    same: bool


def measure(name: str, artifact: Path, rounds: int, tokens: int = 128) -> list[Speculation]:
    """Every way in turns on a summarising prompt with one thread at temperature 0, the best of `rounds` each.

    Processor time after the first token; a way that learns starts anew each time.
    """
    found: dict[str, Speculation] = {}
    with open_text_model(artifact, 1) as model:
        message = summarising_prompt()
        if model.tokenizer.config.get("chat_template"):
            ids = chat_ids(model.tokenizer, model.chat_template(), [{"role": "user", "content": message}])
        else:
            ids = model.tokenizer.encode(f"{message}\n\nSummary: ", bos=True)
        options = Options(max_tokens=tokens, sampling=SamplingOptions(temperature=0.0))
        with model.engine(len(ids) + tokens + 32) as engine:
            plain: list[int] = []
            for _ in range(rounds):
                for way, drafter in SPECULATION.items():
                    engine.reset()
                    generation = Generation(engine, ids, model.tokenizer, options, drafter=drafter(engine.vocab))
                    events = iter(generation)
                    next(events)
                    start = time.process_time()
                    for _ in events:
                        pass
                    rate = (len(generation.tokens) - 1) / (time.process_time() - start)
                    plain = plain or generation.tokens
                    if way not in found or rate > found[way].rate:
                        s = generation.statistics
                        same = generation.tokens == plain
                        figures = len(generation.tokens), rate, s.acceptance, s.tokens_per_pass, same
                        found[way] = Speculation(name, way, *figures)
    return list(found.values())
