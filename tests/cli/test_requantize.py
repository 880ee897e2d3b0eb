"""Weights in fewer bits than the file has them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.decoder import open_gguf
from compiler.gguf.requantize import requantized
from edgert.errors import UsageError
from tests.cli.conftest import Edgert, assert_one_line
from tests.llm.small_models import gguf


def test_matrices_of_more_bits_alone() -> None:
    before = open_gguf(gguf()).weights
    after, note = requantized(before, "q4_0")
    changed = {name for name in before if after[name] is not before[name]}
    assert changed == {n for n, t in before.items() if len(t.shape) == 2 and t.type.bits_per_weight > 4.5}
    assert changed and f"requantized {len(changed)} matrices to Q4_0" in note
    for name in changed:
        old, new = before[name].numpy(), after[name].numpy()
        assert new.shape == old.shape and after[name].nbytes == old.size * 18 // 32
        # codes of -8 to 7 steps, of which the largest weight is -8: another of the same size and sign unlike it falls
        # a step short; scales are rounded to float16
        largest = np.abs(old.reshape(-1, 32)).max(-1, keepdims=True)
        assert (np.abs((new - old).reshape(-1, 32)) <= largest / 8 * 1.01).all()


def test_a_scheme_that_there_is_not(edgert: Edgert, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--quant int3"):
        requantized({}, "int3")
    out = tmp_path / "m.edge"
    assert_one_line(edgert("compile", gguf(), "-o", out, "--quant", "int8-dynamic"), 2, "int4x8", "q4_0")
    samples = ("--calibrate", gguf())
    assert_one_line(edgert("compile", gguf(), "-o", out, "--quant", "q4_0", *samples), 2, "without samples")
    assert not out.exists()


@pytest.mark.slow
def test_compiled(edgert: Edgert, tmp_path: Path) -> None:
    done = edgert("compile", gguf(), "-o", tmp_path / "m.edge", "--quant", "int4x8")
    assert done.exit_code == 0 and "requantized" in done.stdout + done.stderr
    assert edgert("generate", tmp_path / "m.edge", "--prompt", "the end", "--max-tokens", 3).exit_code == 0
