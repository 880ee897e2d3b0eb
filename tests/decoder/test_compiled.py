"""The standard ONNX of a decoder through the compiler and the runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgert
from compiler.decoder import open_gguf
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from tests.decoder import forward
from tests.decoder.small import CASES, write
from tests.decoder.test_standard import IDS, same

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", ["llama", "gemma3", "phi3"])
def test_logits_after_a_past(case: str, tmp_path: Path) -> None:
    weights = write(tmp_path / "small.gguf", CASES[case])
    decoder, tensors, _ = open_gguf(tmp_path / "small.gguf")
    path = to_onnx(decoder, tensors, tmp_path / "small.onnx", "blocks")
    before = Session(path, decoder)
    before.feed(IDS[:4])
    edgert.compile(path, tmp_path / "small.edge", dims={"seq": (1, 16), "past": (1, 32)}, golden=False)
    positions = np.arange(4, len(IDS))[None]
    with edgert.load(tmp_path / "small.edge", threads=1) as model:
        outputs = model.run({"input_ids": np.array([IDS[4:]]), "position_ids": positions, **before.past})
        same(outputs["logits"][0], forward.logits(CASES[case], weights, IDS)[4:])
