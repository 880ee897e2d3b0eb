"""Logits of the compiled decoder beside ONNX Runtime on the standard graph of the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.decoder import open_gguf
from compiler.decoder.rounded import round_like_compiled
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from edgert.llm.engine import open_engine
from tests.llm.small_models import artifact, gguf
from tests.llm.test_engine import CASES_FAST_FIRST

TOKENS = 40


def spread(errors: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Each token's error over the vocabulary, as a share of its logits' own spread."""
    return errors.std(axis=1) / logits.std(axis=1)


@pytest.mark.parametrize("case", CASES_FAST_FIRST)
def test_logits(case: str, tmp_path: Path) -> None:
    decoder, weights, _ = open_gguf(gguf(case))
    exact = to_onnx(decoder, weights, tmp_path / "exact.onnx")
    rounded = round_like_compiled(exact, weights, tmp_path / "rounded.onnx")
    ids = [int(i) for i in np.random.default_rng(0).integers(0, decoder.vocab, TOKENS)]
    want, same = Session(exact, decoder).feed(ids), Session(rounded, decoder).feed(ids)
    with open_engine(artifact(case), threads=1) as engine:
        many = engine.score(ids)  # rows enough for products in bfloat16, on AMX
        engine.reset()
        engine.chunk = engine.wanted = 8
        found = engine.score(ids)
    cost = spread(same - want, want).mean()  # of 8-bit activations and a float16 cache: 1 to 3 % here
    # The same roundings in the same places give the same logits but for sums in another order (1e-7 each, 1e-5 after
    # some hundred in up to 7 layers), until one of them tips a number at a tie to its block's next code. That reaches
    # the tokens after it, so the first are free of it; and it costs less than rounding all numbers does.
    beside = spread(found - same, want)
    assert np.quantile(beside, 0.05) < 1e-5  # two tokens at least: with blocks of 256 a tie comes early
    assert beside.mean() < cost / 2
    # Errors of one size each, drawn a little differently (at most half of the variance): no further from exact
    assert spread(found - want, want).mean() < 1.25 * cost
    # bfloat16 rounds a block's largest by as much as 8-bit codes do, all others by less, and other numbers tip
    assert spread(many - want, want).mean() < 1.25 * cost
