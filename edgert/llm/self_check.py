"""A language model's answers beside those its artifact carries (compiler/decoder/golden.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgert.errors import EdgertError
from edgert.llm.engine import CachedEngine

MEMBER = "golden/decoder.json"
DEVIATIONS = 4 * 2**0.5  # of a difference of two errors: what may turn the order of two logits


@dataclass(frozen=True)
class Answers:
    """How far the engine's logits are off, as a share of their spread (root mean square); tokens whose likeliest
    successor is another than the reference's, all of them and those with a larger gap between the two than errors
    explain."""

    error: float
    tolerance: float
    differing: int
    wrong: int
    tokens: int


def self_check(engine: CachedEngine) -> Answers:
    """Half of the text in one run, as prompts go, the rest token by token.

    Raises EdgertError where the artifact carries no answers."""
    artifact = engine.model.artifact
    if MEMBER not in artifact.spec.members:
        raise EdgertError(f"{artifact.path} carries no golden answers: compile it again without --no-golden")
    wanted: dict[str, Any] = json.loads(bytes(artifact.member(MEMBER)))
    try:
        columns, spread = np.array(wanted["columns"]), np.array(wanted["spread"])
        expected, ids, likeliest = np.array(wanted["logits"]), wanted["ids"], int(wanted["likeliest"])
        tolerance = float(wanted["tolerance"])
        half = max(1, min(len(ids) // 2, engine.wanted))
        engine.reset()
        logits = np.stack([*engine.score(ids[:half]), *(engine.decode(token).copy() for token in ids[half:])])
        found = np.take_along_axis(logits, columns, axis=1)
        off = found - expected
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EdgertError(f"{artifact.path}: {MEMBER} is damaged ({error!r})") from None
    off -= off.mean(axis=1, keepdims=True)  # what all logits share changes nothing
    share = float(np.sqrt(np.mean((off.std(axis=1) / spread) ** 2)))
    differing, wrong = 0, 0
    for row, best in enumerate(logits.argmax(axis=1)):
        if best == columns[row, 0]:
            continue
        differing += 1
        rank = np.flatnonzero(columns[row, :likeliest] == best)
        second = expected[row, rank[0]] if len(rank) else expected[row, likeliest - 1]
        wrong += bool(expected[row, 0] - second > DEVIATIONS * tolerance * spread[row])
    return Answers(share if np.isfinite(share) else float("inf"), tolerance, differing, wrong, len(ids))
