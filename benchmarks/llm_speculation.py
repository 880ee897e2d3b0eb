"""Decoding with guesses beside decoding without: the same text, how much faster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from benchmarks.llm_texts import summarising_prompts
from edgert.interface.generate import SPECULATION
from edgert.llm.chat_prompt import chat_ids
from edgert.llm.generate import Generation, Options
from edgert.llm.sampling import SamplingOptions
from edgert.llm.text_model import TextModel, open_text_model

ITEMS, TOKENS = 6, 128


@dataclass(frozen=True)
class Speculation:
    """One way to guess: tokens/s, guesses that held, tokens a pass gave, and whether all texts are those without it."""

    model: str
    way: str
    rate: float
    acceptance: float
    tokens_per_pass: float
    same: bool


def measure(name: str, artifact: Path, rounds: int) -> list[Speculation]:
    """Every way in turns on summarising prompts with one thread at temperature 0, on the engine that `edgert generate`
    takes then.

    Processor time after the first token, of each text the best of `rounds`; a way that learns starts anew each time.
    """
    found = []
    with open_text_model(artifact, 1, only_likeliest=True) as model:
        prompts = [_ids(model, message) for message in summarising_prompts(ITEMS)]
        options = Options(max_tokens=TOKENS, sampling=SamplingOptions(temperature=0.0))
        engine = model.engine(max(map(len, prompts)) + TOKENS + 32)
        seconds: dict[str, list[float]] = {way: [inf] * ITEMS for way in SPECULATION}
        texts: dict[str, list[Generation]] = {way: [] for way in SPECULATION}
        for _ in range(rounds):
            texts = {way: [] for way in SPECULATION}
            for i, ids in enumerate(prompts):
                for way, drafter in SPECULATION.items():
                    engine.reset()
                    generation = Generation(engine, ids, model.tokenizer, options, drafter=drafter(engine.vocab))
                    events = iter(generation)
                    next(events)
                    start = time.process_time()
                    for _event in events:
                        pass
                    seconds[way][i] = min(seconds[way][i], time.process_time() - start)
                    texts[way].append(generation)
    for way, done in texts.items():
        figures = [generation.statistics for generation in done]
        tokens, passes, drafted = (sum(getattr(s, key) for s in figures) for key in ("tokens", "passes", "drafted"))
        accepted = sum(s.accepted for s in figures)
        same = all(a.tokens == b.tokens for a, b in zip(done, texts["none"], strict=True))
        rate = (tokens - ITEMS) / sum(seconds[way])
        found.append(Speculation(name, way, rate, accepted / max(1, drafted), (tokens - ITEMS) / passes, same))
    return found


def _ids(model: TextModel, message: str) -> list[int]:
    if model.tokenizer.config.get("chat_template"):
        with model.chat_template() as template:
            return chat_ids(model.tokenizer, template, [{"role": "user", "content": message}])
    return model.tokenizer.encode(f"{message}\n\nSummary: ", bos=True)
